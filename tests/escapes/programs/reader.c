/* Under a policy of its own it may read the forbidden file: it does, tells where, and waits. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
static char text[64];
int main(int argc, char **argv) {
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        return 1;
    printf("%lu\n", (unsigned long)text);
    fflush(stdout);
    pause();
    return 0;
}
