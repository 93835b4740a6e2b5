/* What path_calls.c and its other parts share. */
#ifndef PATH_CALLS_H
#define PATH_CALLS_H

#ifndef SYS_fchmodat2 /* the headers may be older than the kernel */
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468
#define SYS_file_setattr 469
#endif

extern const char *const names[];
extern const int NAMES;

int is_elsewhere(const char *name); /* what a change there would spoil for others */
void state(const char *name);       /* prints what a name of ours now stands for */
int more_calls(char part);
int still_more_calls(char part);
int mount_calls(char part);

#endif
