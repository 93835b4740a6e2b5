/* What path_calls.c and its other parts share. */
#ifndef PATH_CALLS_H
#define PATH_CALLS_H

extern const char *const names[];
extern const int NAMES;

int is_elsewhere(const char *name); /* what a change there would spoil for others */
void state(const char *name);       /* prints what a name of ours now stands for */
int more_calls(char part);

#endif
