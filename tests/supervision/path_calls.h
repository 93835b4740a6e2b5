/* What path_calls.c and its other parts share. */
#ifndef PATH_CALLS_H
#define PATH_CALLS_H

#ifndef SYS_fchmodat2 /* the headers may be older than the kernel */
#define SYS_fchmodat2 452
#endif

extern const char *const names[];
extern const int NAMES;

int is_elsewhere(const char *name); /* what a change there would spoil for others */
void state(const char *name);       /* prints what a name of ours now stands for */
int more_calls(char part);

#endif
