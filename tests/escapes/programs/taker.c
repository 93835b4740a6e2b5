/* taker WHAT ...: executed with the hope that more is permitted here. Ends with 42 when it got what
 * it is about, with 43 when that was denied.
 *   taker read FILE     what lies in FILE
 *   taker adopt HEADER  another policy
 *   taker ask           the group of a process, which costs nothing */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { ADOPT = 0x43584144, GOT = 42, DENIED = 43, ODD = 44 };

int main(int argc, char **argv) {
    char text[64] = { 0 };
    int done = -1;
    if (argc == 3 && !strcmp(argv[1], "read")) {
        int fd = open(argv[2], O_RDONLY);
        if (fd >= 0)
            _exit(read(fd, text, sizeof text - 1) > 0 && strstr(text, "secret") ? GOT : 0);
    } else if (argc == 3 && !strcmp(argv[1], "adopt"))
        done = prctl(ADOPT, argv[2], 0, 0, 0);
    else if (argc == 2 && !strcmp(argv[1], "ask"))
        done = getpgid(0);
    if (done >= 0)
        _exit(GOT);
    _exit(errno == EPERM || errno == EACCES ? DENIED : ODD);
}
