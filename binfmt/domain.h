/* Step 8, the end: the files that the program may open, as a Landlock domain. Part of launch.c.
 *
 * Each tree is opened anew, without links, and must be the object that the plan was made for: a
 * name alone could lead elsewhere by now. The kernel gives nothing to read a domain back by; what
 * each call answers is all there is. After this the launcher opens nothing any more. */

/* Gives null, or what is wrong. */
static const char *grant(long ruleset, const struct tree *tree, long *error) {
    struct how how = { O_PATH | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS };
    struct status file = { 0 };
    const char *problem = 0;
    long fd = *error = sys(SYS_openat2, AT_FDCWD, block + tree->path, &how, sizeof how);
    if (fd < 0)
        return "a directory that the policy names cannot be opened";
    struct beneath rule = { tree->rights, (s32)fd };
    if ((*error = sys(SYS_fstat, fd, &file)) < 0)
        problem = "a directory that the policy names cannot be examined";
    else if (file.device != tree->device || file.inode != tree->inode)
        problem = "a directory that the policy names was exchanged";
    else if ((*error = sys(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule)) < 0)
        problem = "the Landlock domain cannot be made";
    sys(SYS_close, fd);
    return problem;
}

/* Makes the domain ready in self.domain; a kept plan's, before it is sure that it counts. */
static const char *make_domain(long *error) {
    const struct tree *tree = (const struct tree *)(block + plan->trees.offset);
    struct ruleset rules = { plan->handled };
    const char *problem = 0;
    *error = sys(SYS_landlock_create_ruleset, &rules, sizeof rules);
    self.domain = (s32)*error;
    if (self.domain < 0)
        return "the Landlock domain cannot be made";
    for (u64 i = 0; i < plan->trees.count && !problem; i++)
        problem = grant(self.domain, tree + i, error);
    return problem;
}

/* Needs no_new_privs, or CAP_SYS_ADMIN, which a later step gives away. */
static void enter_domain(void) {
    long error = 0;
    if (!has(PLAN_LANDLOCK))
        return;
    self.reason = "kernel-unsupported";
    if (!self.kept) {
        const char *problem = make_domain(&error);
        check(!problem, EXIT_REFUSED, problem, error);
    }
    need(sys(SYS_landlock_restrict_self, self.domain), "the Landlock domain cannot be entered");
    sys(SYS_close, self.domain);
}
