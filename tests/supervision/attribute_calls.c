/* The other parts of path_calls.c: attributes, times, nodes, extended attributes, bad arguments. */
#include "calls.h"
#include "path_calls.h"

static void bad_pointers(void) {
    void *bad[] = { NULL, BAD, KERNEL, (void *)-1L };
    for (int i = 0; i < 4; i++) {
        CALL(SYS_rename, bad[i], "fresh");
        CALL(SYS_rename, "file", bad[i]);
        CALL(SYS_rename, "missing/x", bad[i]);
        CALL(SYS_rename, "missing", bad[i]);
        CALL(SYS_renameat2, AT_FDCWD, bad[i], AT_FDCWD, "fresh", 77);
        CALL(SYS_renameat2, AT_FDCWD, "file", AT_FDCWD, bad[i], 77);
        CALL(SYS_link, bad[i], "fresh");
        CALL(SYS_link, "file", bad[i]);
        CALL(SYS_link, "missing", bad[i]);
        CALL(SYS_linkat, AT_FDCWD, bad[i], AT_FDCWD, "fresh", AT_EMPTY_PATH);
        CALL(SYS_symlink, bad[i], "fresh");
        CALL(SYS_symlink, "x", bad[i]);
        CALL(SYS_symlink, "", bad[i]);
    }
}

int more_calls(char part) {
    switch (part) {
    case 'p': bad_pointers(); break;
    default: return 2;
    }
    return 0;
}
