/* The race between a call and whoever exchanges what the call is about. */
#include "attack.h"

/* What is exchanged in memory: the bytes at `place` in the page, words[0] is permitted. */
struct target {
    char image[PAGE];           /* what the page holds at first */
    size_t place, width;        /* width 2 or 4, so that an exchange is one store */
    uint32_t words[2];
};

/* Starts whoever exchanges; returns the page that calls shall be made with. Of a means that
 * exchanges names, `target` is not looked at, and way_in() says the name that leads through it. */
char *start_exchange(struct target *target);
void stop_exchange(void);
int exchanges_names(void);
/* The name by which `tail` in one of both directories is reached. */
const char *way_in(const char *tail);
void before_call(void);
