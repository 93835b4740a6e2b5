/* Step 8, the end: the files that the program may open, as a Landlock domain. Part of launch.c.
 *
 * Each tree is opened anew, without links, and must be the object that the plan was made for: a
 * name alone could lead elsewhere by now. The kernel gives nothing to read a domain back by; what
 * each call answers is all there is. After this the launcher opens nothing any more. */

static void grant(long ruleset, const struct tree *tree) {
    struct how how = { O_PATH | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS };
    struct status file;
    long fd = sys(SYS_openat2, AT_FDCWD, block + tree->path, &how, sizeof how);
    need(fd, "a directory that the policy names cannot be opened");
    need(sys(SYS_fstat, fd, &file), "a directory that the policy names cannot be examined");
    require(file.device == tree->device && file.inode == tree->inode,
            "a directory that the policy names was exchanged");
    struct beneath rule = { tree->rights, (s32)fd };
    need(sys(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_BENEATH, &rule),
         "the Landlock domain cannot be made");
    sys(SYS_close, fd);
}

/* Needs no_new_privs, or CAP_SYS_ADMIN, which a later step gives away. */
static void enter_domain(void) {
    const struct tree *tree = (const struct tree *)(block + plan->trees.offset);
    struct ruleset rules = { plan->handled };
    if (!has(PLAN_LANDLOCK))
        return;
    self.reason = "kernel-unsupported";
    long ruleset = sys(SYS_landlock_create_ruleset, &rules, sizeof rules);
    need(ruleset, "the Landlock domain cannot be made");
    for (u64 i = 0; i < plan->trees.count; i++)
        grant(ruleset, tree + i);
    need(sys(SYS_landlock_restrict_self, ruleset), "the Landlock domain cannot be entered");
    sys(SYS_close, ruleset);
}
