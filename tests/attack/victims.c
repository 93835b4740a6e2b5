/* The programs that the attacks are about: static, without libc, about 64 KiB. Each takes its words
 * from the first and from the last page of its bytes, so whoever changes either is seen. Compiled
 * once for each ROLE; the evil twin is the same file with the words exchanged. */
enum { SYS_write = 1, SYS_pread64 = 17, SYS_getppid = 110, SYS_exit_group = 231, EPERM = 1 };
enum { BINARY, INTERPRETER, POLICY };
enum { SCRIPT_EARLY = 512, SCRIPT_LATE = 60000 }; /* offsets of the words in a script */

static long call(long number, long a, long b, long c, long d) {
    register long fourth __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
    return result;
}

/* Not volatile, so that it is in a read-only segment: a running program then reads the file's own
 * pages and no copy of them. */
__attribute__((aligned(4096)))
static const struct { char early[4], padding[62000], late[4]; } body = { "GOOD", { 1 }, "GOOD" };
static char line[17];

static void copy(char *to, const volatile char *from) {
    for (int i = 0; i < 4; i++)
        to[i] = from[i];
}

__attribute__((used)) static void start(long *stack) {
    long length = 8;
    for (volatile long i = 0; i < SPIN; i++) /* no program uses all its bytes in the first moment */
        ;
    copy(line, body.early);
    copy(line + 4, body.late);
    if (ROLE == INTERPRETER && stack[0] >= 2) { /* argv[1] is /dev/fd/N, and N is open */
        long fd = 0;
        for (const char *digit = (const char *)stack[2] + 8; *digit; digit++)
            fd = fd * 10 + (*digit - '0');
        call(SYS_pread64, fd, (long)(line + 8), 4, SCRIPT_EARLY);
        call(SYS_pread64, fd, (long)(line + 12), 4, SCRIPT_LATE);
        length = 16;
    }
    if (ROLE == POLICY && call(SYS_getppid, 0, 0, 0, 0) != -EPERM)
        copy(line, "EVIL"); /* the policy does not let us ask; another one was in force */
    line[length] = '\n';
    call(SYS_write, 1, (long)line, length + 1, 0);
    call(SYS_exit_group, 0, 0, 0, 0);
}

__asm__(".text\n.globl _start\n_start:\n    mov %rsp, %rdi\n    and $-16, %rsp\n    call start\n");
