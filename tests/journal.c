/* Preloaded (LD_PRELOAD), record what a process changes below one folder, between journal_start and journal_stop.

   Each call is appended to the journal once it has succeeded, as a line "operation inode offset length length", then
   two byte strings of those lengths: paths, or the data written. Ways to write that nothing here uses are recorded as
   "unsupported", and tests/power_failures.py compares the journal's end with the folder. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int journal = -1;
static char root[PATH_MAX];
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER; /* so that the journal has the order of the changes */

int journal_start(const char *folder, const char *file)
{
    if (realpath(folder, root) == NULL) return -1;
    return journal = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

void journal_stop(void)
{
    syscall(SYS_close, journal);
    journal = -1;
}

static int inside(const char *path)
{
    size_t length = strlen(root);
    return journal >= 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int path_of(int descriptor, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = '\0';
    return inside(path);
}

static int absolute(int folder, const char *name, char *path)
{
    char base[PATH_MAX];
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        if (folder == AT_FDCWD) {
            if (getcwd(base, sizeof base) == NULL) return 0;
        } else {
            path_of(folder, base);
        }
        if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return inside(path);
}

static void record(const char *what, ino_t inode, off_t offset, const void *one, size_t first, const void *other, size_t second)
{
    char head[128];
    int length = snprintf(head, sizeof head, "%s %ju %jd %zu %zu\n", what, (uintmax_t)inode, (intmax_t)offset, first, second);
    struct iovec parts[] = {{head, (size_t)length}, {(void *)one, first}, {(void *)other, second}};
    if (syscall(SYS_writev, journal, parts, 3) != (long)((size_t)length + first + second)) abort();
}

static void record_path(const char *what, ino_t inode, const char *path)
{
    record(what, inode, 0, path, strlen(path), "", 0);
}

static ino_t inode_of(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

static long opened(int folder, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !absolute(folder, name, path))
        return syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&changing);
    int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    long descriptor = syscall(SYS_openat, folder, name, flags, mode);
    int error = errno;
    if (descriptor >= 0 && !existed) record_path("create", inode_of((int)descriptor), path);
    else if (descriptor >= 0 && flags & O_TRUNC) record("truncate", inode_of((int)descriptor), 0, "", 0, "", 0);
    errno = error;
    pthread_mutex_unlock(&changing);
    return descriptor;
}

#define MODE(last) \
    va_list arguments; \
    va_start(arguments, last); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
    va_end(arguments)

int open(const char *name, int flags, ...) { MODE(flags); return (int)opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags); return (int)opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags); return (int)opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags); return (int)opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return (int)opened(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

/* offset < 0: at the file's own */
static ssize_t written(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    char path[PATH_MAX];
    if (journal < 0 || !path_of(descriptor, path))
        return offset < 0 ? syscall(SYS_writev, descriptor, parts, count)
                          : syscall(SYS_pwritev, descriptor, parts, count, offset, 0);
    pthread_mutex_lock(&changing);
    ssize_t done = offset < 0 ? syscall(SYS_writev, descriptor, parts, count)
                              : syscall(SYS_pwritev, descriptor, parts, count, offset, 0);
    int error = errno;
    off_t at = offset < 0 ? lseek(descriptor, 0, SEEK_CUR) - done : offset;
    ssize_t left = done;
    for (int part = 0; part < count && left > 0; part++) {
        size_t size = (size_t)left < parts[part].iov_len ? (size_t)left : parts[part].iov_len;
        record("write", inode_of(descriptor), at, parts[part].iov_base, size, "", 0);
        at += (off_t)size;
        left -= (ssize_t)size;
    }
    errno = error;
    pthread_mutex_unlock(&changing);
    return done;
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    struct iovec part = {(void *)data, size};
    return written(descriptor, &part, 1, -1);
}
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    struct iovec part = {(void *)data, size};
    return written(descriptor, &part, 1, offset);
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset) { return pwrite(descriptor, data, size, offset); }
ssize_t writev(int descriptor, const struct iovec *parts, int count) { return written(descriptor, parts, count, -1); }
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) { return written(descriptor, parts, count, offset); }
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) { return written(descriptor, parts, count, offset); }

/* Make a call, and record it if it succeeded. */
#define CHANGE(call, recording) \
    pthread_mutex_lock(&changing); \
    long result = (call); \
    int error = errno; \
    if (result >= 0) recording; \
    errno = error; \
    pthread_mutex_unlock(&changing); \
    return (int)result

int ftruncate(int descriptor, off_t size)
{
    char path[PATH_MAX];
    if (!path_of(descriptor, path)) return (int)syscall(SYS_ftruncate, descriptor, size);
    CHANGE(syscall(SYS_ftruncate, descriptor, size), record("truncate", inode_of(descriptor), size, "", 0, "", 0));
}
int ftruncate64(int descriptor, off_t size) { return ftruncate(descriptor, size); }

/* Nothing is really synced: the disk that loses power is a model of one, and syncing takes most of the time. */
int fsync(int descriptor)
{
    char path[PATH_MAX];
    if (path_of(descriptor, path)) record("sync", inode_of(descriptor), 0, "", 0, "", 0);
    return 0;
}
int fdatasync(int descriptor) { return fsync(descriptor); }

int renameat2(int from, const char *name, int to, const char *target, unsigned flags)
{
    char source[PATH_MAX], place[PATH_MAX];
    int known = absolute(from, name, source);
    if (!absolute(to, target, place) && !known) return (int)syscall(SYS_renameat2, from, name, to, target, flags);
    CHANGE(syscall(SYS_renameat2, from, name, to, target, flags),
           record(flags & ~RENAME_NOREPLACE ? "unsupported" : "rename", 0, 0, source, strlen(source), place, strlen(place)));
}
int renameat(int from, const char *name, int to, const char *target) { return renameat2(from, name, to, target, 0); }
int rename(const char *name, const char *target) { return renameat2(AT_FDCWD, name, AT_FDCWD, target, 0); }

int linkat(int from, const char *name, int to, const char *target, int flags)
{
    char source[PATH_MAX], place[PATH_MAX];
    absolute(from, name, source);
    if (!absolute(to, target, place)) return (int)syscall(SYS_linkat, from, name, to, target, flags);
    CHANGE(syscall(SYS_linkat, from, name, to, target, flags),
           record("link", 0, 0, source, strlen(source), place, strlen(place)));
}
int link(const char *name, const char *target) { return linkat(AT_FDCWD, name, AT_FDCWD, target, 0); }

int unlinkat(int folder, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!absolute(folder, name, path)) return (int)syscall(SYS_unlinkat, folder, name, flags);
    CHANGE(syscall(SYS_unlinkat, folder, name, flags), record_path("unlink", 0, path));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    struct stat status;
    if (!absolute(folder, name, path)) return (int)syscall(SYS_mkdirat, folder, name, mode);
    CHANGE(syscall(SYS_mkdirat, folder, name, mode), record_path("mkdir", stat(path, &status) == 0 ? status.st_ino : 0, path));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

void sync(void)
{
    if (journal >= 0) record("sync", 0, 0, "", 0, "", 0);
}
int syncfs(int descriptor)
{
    (void)descriptor;
    sync();
    return 0;
}

/* Nothing here writes in these ways. */

static void refuse(const char *what, int descriptor)
{
    char path[PATH_MAX];
    if (path_of(descriptor, path)) record("unsupported", 0, 0, what, strlen(what), path, strlen(path));
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void *mapped(void *at, size_t size, int protection, int flags, int descriptor, off_t offset)
{
    if (descriptor >= 0 && protection & PROT_WRITE && flags & MAP_SHARED) refuse("mmap", descriptor);
    return (void *)syscall(SYS_mmap, at, size, protection, flags, descriptor, offset);
}
void *mmap(void *at, size_t size, int protection, int flags, int descriptor, off_t offset) { return mapped(at, size, protection, flags, descriptor, offset); }
void *mmap64(void *at, size_t size, int protection, int flags, int descriptor, off_t offset) { return mapped(at, size, protection, flags, descriptor, offset); }

ssize_t sendfile(int out, int in, off_t *offset, size_t size) { refuse("sendfile", out); return syscall(SYS_sendfile, out, in, offset, size); }
ssize_t sendfile64(int out, int in, off_t *offset, size_t size) { return sendfile(out, in, offset, size); }
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t size, unsigned flags)
{
    refuse("copy_file_range", out);
    return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
}

static FILE *streamed(const char *call, const char *name, const char *mode)
{
    FILE *file = ((FILE *(*)(const char *, const char *))real(call))(name, mode);
    if (file != NULL && strpbrk(mode, "wa+") != NULL) refuse(call, fileno(file));
    return file;
}
FILE *fopen(const char *name, const char *mode) { return streamed("fopen", name, mode); }
FILE *fopen64(const char *name, const char *mode) { return streamed("fopen64", name, mode); }

int truncate(const char *name, off_t size)
{
    char path[PATH_MAX];
    if (absolute(AT_FDCWD, name, path)) record("unsupported", 0, 0, "truncate", 8, path, strlen(path));
    return (int)syscall(SYS_truncate, name, size);
}
int truncate64(const char *name, off_t size) { return truncate(name, size); }
