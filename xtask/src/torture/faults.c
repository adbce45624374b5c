/* Makes calls of the program fail: preloaded before the C library.
 *
 * CN_FAULT_DIR     only files below this folder count
 * CN_FAULT_CALLS   letters of the calls that count: w(rite), f(sync), r(ename and link)
 * CN_FAULT_ENDING  only names that end so count, for renames
 * CN_FAULT_N       which of them fails, from 1
 * CN_FAULT_HOW     once: that one fails; on: it and all after it; die: the process ends right behind it
 * CN_FAULT_ERRNO   what failing calls say
 * CN_FAULT_MARK    a file that is made once a call has failed
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static const char *dir, *calls, *ending, *how, *mark;
static long nth, error;
static atomic_long count;

__attribute__((constructor)) static void begin(void) {
    dir = getenv("CN_FAULT_DIR");
    calls = getenv("CN_FAULT_CALLS");
    ending = getenv("CN_FAULT_ENDING");
    how = getenv("CN_FAULT_HOW");
    mark = getenv("CN_FAULT_MARK");
    nth = getenv("CN_FAULT_N") ? atol(getenv("CN_FAULT_N")) : 0;
    error = getenv("CN_FAULT_ERRNO") ? atol(getenv("CN_FAULT_ERRNO")) : EIO;
}

enum verdict { GO, FAIL, DIE };

static enum verdict judge(char call, const char *path) {
    if (!dir || !calls || !how || !path || !strchr(calls, call) || strncmp(path, dir, strlen(dir)) != 0) {
        return GO;
    }
    if (call == 'r' && ending) {
        size_t n = strlen(path), m = strlen(ending);
        if (n < m || strcmp(path + n - m, ending) != 0) {
            return GO;
        }
    }
    long n = atomic_fetch_add(&count, 1) + 1;
    if (n != nth && !(n > nth && how[0] == 'o' && how[1] == 'n' && how[2] == '\0')) {
        return GO;
    }
    if (how[0] == 'd') {
        return DIE;
    }
    if (mark) {
        long fd = syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0644);
        if (fd >= 0) {
            syscall(SYS_close, fd);
        }
    }
    return FAIL;
}

static long answer(enum verdict verdict, long result) {
    if (verdict == DIE) {
        _exit(137);
    }
    return result;
}

static enum verdict judge_fd(char call, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) {
        return GO;
    }
    path[n] = '\0';
    return judge(call, path);
}

ssize_t write(int fd, const void *bytes, size_t n) {
    enum verdict verdict = judge_fd('w', fd);
    if (verdict == FAIL) {
        errno = error;
        return -1;
    }
    return answer(verdict, syscall(SYS_write, fd, bytes, n));
}

int fsync(int fd) {
    enum verdict verdict = judge_fd('f', fd);
    if (verdict == FAIL) {
        errno = error;
        return -1;
    }
    return answer(verdict, syscall(SYS_fsync, fd));
}

int fdatasync(int fd) {
    enum verdict verdict = judge_fd('f', fd);
    if (verdict == FAIL) {
        errno = error;
        return -1;
    }
    return answer(verdict, syscall(SYS_fdatasync, fd));
}

int rename(const char *from, const char *to) {
    enum verdict verdict = judge('r', to);
    if (verdict == FAIL) {
        errno = error;
        return -1;
    }
    return answer(verdict, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    enum verdict verdict = judge('r', to);
    if (verdict == FAIL) {
        errno = error;
        return -1;
    }
    return answer(verdict, syscall(SYS_linkat, from_dir, from, to_dir, to, flags));
}
