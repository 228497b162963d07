/* Which operation is ordered before which: by its stream, an event, a graph's edge, or because the host waited. */
#include "cudaemu_engine.h"

namespace cudaemu {

Clock host_clock;

/* A chain that is given up is used again and counts on, so that a number never means two operations. */
static std::vector<uint64_t> last_in_chain(1); /* chain 0 belongs to nobody: accesses of nobody carry it */
static std::vector<int> unused_chains;

constexpr size_t kMaxChains = 2048;

int new_chain()
{
    if (!unused_chains.empty()) {
        int chain = unused_chains.back();
        unused_chains.pop_back();
        return chain;
    }
    if (last_in_chain.size() == kMaxChains)
        fault("more than %zu streams and branches of graphs", kMaxChains);
    last_in_chain.push_back(0);
    return (int)last_in_chain.size() - 1;
}

void free_chain(int chain) { unused_chains.push_back(chain); }

uint64_t next_in_chain(int chain) { return ++last_in_chain[(size_t)chain]; }

void join(Clock &clock, const Clock &other)
{
    if (clock.size() < other.size())
        clock.resize(other.size());
    for (size_t i = 0; i < other.size(); i++)
        if (clock[i] < other[i])
            clock[i] = other[i];
}

void join(Clock &clock, int chain, uint64_t sequence)
{
    if (clock.size() <= (size_t)chain)
        clock.resize((size_t)chain + 1);
    if (clock[(size_t)chain] < sequence)
        clock[(size_t)chain] = sequence;
}

} // namespace cudaemu
