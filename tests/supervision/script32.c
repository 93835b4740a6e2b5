/* Makes system calls of the 32-bit ABI by int 0x80, as its arguments say, one after the other.
 *
 *   script CALL [-- CALL]...     CALL: NUMBER ARGUMENT...
 *
 * ARGUMENT: a number; s:TEXT, x:HEX or w:(ARGUMENT;...) a pointer to a string, to bytes, to 32-bit
 * words; b:SIZE a pointer to so many bytes of zeroes; r:N what call N (from 0) gave, v:N the first
 * word in its first buffer; a:N what the kernel told the program in its vector (AT_ number N).
 * Prints for each call its number, its result and the content of its buffers.
 *
 * Builds as a 32-bit program and as a 64-bit one, without a library. The 64-bit one leaves rubbish
 * in the upper halves of all registers, which the kernel ignores. */

typedef unsigned int word;

static unsigned char arena[1 << 18] __attribute__((aligned(16)));
static word used, results[128], firsts[128];
static const unsigned long *vector; /* pairs: what, and its value */

static struct { word at, size; } buffers[8];
static word count;

static long enter(word number, const word *a) {
#ifdef __x86_64__
    const unsigned long rubbish = 0xdeadbeef00000000ul;
    register unsigned long sixth __asm__("r12") = a[5] | rubbish;
    unsigned long result;
    __asm__ volatile("push %%rbp; mov %%r12, %%rbp; int $0x80; pop %%rbp"
                     : "=a"(result)
                     : "0"(number | rubbish), "b"(a[0] | rubbish), "c"(a[1] | rubbish),
                       "d"(a[2] | rubbish), "S"(a[3] | rubbish), "D"(a[4] | rubbish), "r"(sixth)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
#else
    long result;
    /* a[5] goes through the stack: no register is left, and ebp is the frame's */
    __asm__ volatile("push %%ebp; push %%ebx; mov (%%esi), %%ebx; mov 20(%%esi), %%ebp;"
                     "mov 4(%%esi), %%ecx; mov 8(%%esi), %%edx; mov 16(%%esi), %%edi;"
                     "mov 12(%%esi), %%esi; int $0x80; pop %%ebx; pop %%ebp"
                     : "=a"(result), "+S"(a)
                     : "0"(number)
                     : "memory", "ecx", "edx", "edi");
    return result;
#endif
}

static void put(const char *text, word size) {
    for (word done = 0; done < size;) {
        word at = used;
        for (word i = 0; i < size - done && i < 4096; i++)
            arena[at + i] = text[done + i];
        word a[6] = {1, (word)(unsigned long)(arena + at), size - done < 4096 ? size - done : 4096};
        long sent = enter(4, a);
        if (sent <= 0)
            return;
        done += sent;
    }
}

static void put_number(long value) {
    char text[24];
    word at = sizeof text;
    unsigned long left = value < 0 ? -(unsigned long)value : (unsigned long)value;
    do
        text[--at] = '0' + left % 10;
    while (left /= 10);
    if (value < 0)
        text[--at] = '-';
    put(text + at, sizeof text - at);
}

static void put_bytes(word at, word size) {
    static const char digits[] = "0123456789abcdef";
    for (word i = 0; i < size; i++) {
        char pair[2] = {digits[arena[at + i] >> 4], digits[arena[at + i] & 15]};
        put(pair, 2);
    }
}

static word pointer(word at) { return (word)(unsigned long)(arena + at); }

static word take(word size) {
    word at = used;
    used += (size + 15) & ~15u;
    return at;
}

static word digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static word number(const char **text) {
    word value = 0, base = 10;
    int negative = **text == '-';
    *text += negative;
    if ((*text)[0] == '0' && (*text)[1] == 'x')
        base = 16, *text += 2;
    while (**text && **text != ';' && **text != ')')
        value = value * base + digit(*(*text)++);
    return negative ? -value : value;
}

static int ends(char c) { return !c || c == ';' || c == ')'; }

static word argument(const char **text) {
    char kind = (*text)[1] == ':' ? (*text)[0] : 0;
    const char *from = *text += kind ? 2 : 0;
    word at, size = 0, words[16];
    switch (kind) {
    case 0: return number(text);
    case 'r': return results[number(text)];
    case 'a':
        from = *text;
        size = number(text);
        for (const unsigned long *pair = vector; pair[0]; pair += 2)
            if (pair[0] == size)
                return (word)pair[1];
        return -1;
    case 'v': return *(word *)(arena + firsts[number(text)]);
    case 'b':
        size = number(text);
        at = take(size);
        buffers[count].at = at;
        buffers[count++].size = size;
        return pointer(at);
    case 'w':
        do {
            (*text)++;
            words[size++] = argument(text);
        } while (**text == ';');
        (*text)++;
        at = take(4 * size);
        for (word i = 0; i < 4 * size; i++)
            arena[at + i] = words[i / 4] >> 8 * (i % 4);
        return pointer(at);
    }
    while (!ends(from[size]))
        size++;
    *text += size;
    at = take(size + 1);
    if (kind == 's') {
        for (word i = 0; i < size; i++)
            arena[at + i] = from[i];
    } else {
        for (word i = 0; i < size / 2; i++)
            arena[at + i] = digit(from[2 * i]) << 4 | digit(from[2 * i + 1]);
    }
    return pointer(at);
}

__attribute__((used, noreturn)) void run(unsigned long *stack) {
    unsigned long argc = stack[0];
    const char **argv = (const char **)(stack + 1);
    vector = stack + 1 + argc + 1;
    while (*vector++)
        ; /* the environment */
    for (unsigned long at = 1, calls = 0; at < argc; at++, calls++) {
        word a[6] = {0}, have = 0;
        const char *text = argv[at];
        count = 0;
        word which = number(&text);
        while (++at < argc && !(argv[at][0] == '-' && argv[at][1] == '-')) {
            text = argv[at];
            a[have++] = argument(&text);
        }
        long result = enter(which, a);
        results[calls] = (word)result;
        firsts[calls] = buffers[0].at;
        put_number(which);
        put(" ", 1);
        put_number(result);
        for (word i = 0; i < count; i++) {
            put(" ", 1);
            put_bytes(buffers[i].at, buffers[i].size);
        }
        put("\n", 1);
    }
    word a[6] = {0};
    for (;;)
        enter(252, a);
}

#ifdef __x86_64__
__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall run\n");
#else
__asm__(".globl _start\n_start: mov %esp, %eax\nand $-16, %esp\nsub $12, %esp\npush %eax\ncall run\n");
#endif
