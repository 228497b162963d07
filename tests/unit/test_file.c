/* Files: mapping, whole-or-nothing writing, folders. */
#include "base/file.h"
#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/papa-test-file-XXXXXX";
static char path[256];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int count_files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static bool holds(const char *name, const char *text)
{
    PapaMapped file;
    bool same = papa_file_map(&file, in_folder(name)) == PAPA_OK && file.size == strlen(text) && (!file.size || !memcmp(file.data, text, file.size));
    papa_file_unmap(&file);
    return same;
}

static PapaStatus write_text(const char *name, const char *text)
{
    PapaWriter writer;
    PAPA_TRY(papa_writer_open(&writer, in_folder(name)));
    PapaStatus status = papa_writer_write(&writer, text, strlen(text));
    if (status)
        papa_writer_abort(&writer);
    return status ? status : papa_writer_commit(&writer);
}

static void test_writer(void)
{
    CHECK_OK(write_text("a", "first"));
    CHECK(holds("a", "first"));
    CHECK_OK(write_text("a", ""));
    CHECK(holds("a", ""));
    CHECK_OK(write_text("a", "second"));
    CHECK(holds("a", "second"));
    CHECK(count_files() == 1, "%d files", count_files());

    PapaWriter writer;
    CHECK_OK(papa_writer_open(&writer, in_folder("a")));
    CHECK_OK(papa_writer_write(&writer, "third", 5));
    CHECK_OK(papa_writer_sync(&writer));
    CHECK(holds("a", "second"));
    papa_writer_abort(&writer);
    papa_writer_abort(&writer);
    CHECK(holds("a", "second"));
    CHECK(count_files() == 1, "%d files", count_files());
    papa_writer_abort(&(PapaWriter){0});
}

static void test_mode(void)
{
    struct stat st = {0};
    mode_t old = umask(027);
    PapaStatus status = write_text("mode", "x");
    umask(old);
    CHECK_OK(status);
    CHECK(!stat(in_folder("mode"), &st) && (st.st_mode & 0777) == 0640, "mode %o", st.st_mode & 0777);
    unlink(in_folder("mode"));
}

/* What is mapped stays as it was when another file takes its name. */
static void test_replaced_under_a_map(void)
{
    PapaMapped file;
    CHECK_OK(write_text("a", "old content"));
    CHECK_OK(papa_file_map(&file, in_folder("a")));
    CHECK_OK(write_text("a", "new"));
    CHECK(file.size == 11 && !memcmp(file.data, "old content", 11));
    papa_file_unmap(&file);
    CHECK(holds("a", "new"));
}

static void test_errors(void)
{
    PapaMapped file;
    PapaWriter writer;
    CHECK_FAILS(papa_file_map(&file, in_folder("nothing")), PAPA_ERR_IO, "nothing: can't open");
    CHECK_FAILS(papa_file_map(&file, folder), PAPA_ERR_IO, "not a regular file");
    CHECK_FAILS(papa_file_map(&file, "/dev/zero"), PAPA_ERR_IO, "/dev/zero");
    CHECK_FAILS(papa_writer_open(&writer, folder), PAPA_ERR_IO, "a folder");
    CHECK_FAILS(papa_writer_open(&writer, "/dev/null"), PAPA_ERR_IO, "not a regular file");
    CHECK_FAILS(papa_writer_open(&writer, in_folder("no/such/place")), PAPA_ERR_IO, "no/such/place");
    CHECK_FAILS(papa_writer_try(in_folder("no/such/place")), PAPA_ERR_IO, "no/such/place");
    CHECK_FAILS(papa_writer_try(folder), PAPA_ERR_IO, "a folder");
    const int before = count_files();
    CHECK_OK(papa_writer_try(in_folder("tried")));
    CHECK(count_files() == before, "a trial leaves nothing");
    CHECK(!writer.stream && !writer.path && !writer.temporary);
    CHECK(count_files() == 1, "%d files", count_files());
}

/* A disk that is full: the old file stays, nothing else is left. */
static void test_full_disk(void)
{
    static char big[1 << 18];
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){4096, old.rlim_max};
    CHECK_OK(write_text("a", "before"));
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    PapaWriter writer;
    PapaStatus open = papa_writer_open(&writer, in_folder("a"));
    PapaStatus status = open ? open : papa_writer_write(&writer, big, sizeof big);
    bool is_named = status == PAPA_ERR_IO && strstr(papa_error(), "/a: can't write");
    papa_writer_abort(&writer);
    open = papa_writer_open(&writer, in_folder("a"));
    status = open ? open : papa_writer_write(&writer, big, 5000); /* fits the buffer: fails at the flush */
    if (!status)
        status = papa_writer_commit(&writer);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(is_named);
    CHECK(status == PAPA_ERR_IO && strstr(papa_error(), "can't write"), "%s", papa_error());
    CHECK(holds("a", "before"));
    CHECK(count_files() == 1, "%d files", count_files());
}

static void test_folders(void)
{
    struct stat st;
    CHECK_OK(papa_file_make_folder(in_folder("x/y//z/")));
    CHECK(!stat(in_folder("x/y/z"), &st) && S_ISDIR(st.st_mode));
    CHECK_OK(papa_file_make_folder(in_folder("x/y/z")));
    CHECK_OK(papa_file_make_folder("/"));
    CHECK_FAILS(papa_file_make_folder(in_folder("a/b")), PAPA_ERR_IO, "in the way");
    CHECK_FAILS(papa_file_make_folder(in_folder("a")), PAPA_ERR_IO, "in the way");
    CHECK_FAILS(papa_file_make_folder(""), PAPA_ERR_IO, "can't make");
}

int main(void)
{
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    test_writer();
    test_mode();
    test_replaced_under_a_map();
    test_errors();
    test_full_disk();
    test_folders();
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK(system(command) == 0);
    return check_result();
}
