/* What is executed: 0 where that is permitted, 42 where it is not, or with the wrong argument. */
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) { _exit(argc > 1 && !strcmp(argv[1], "evil") ? 42 : CODE); }
