/* Step 4: the process that becomes the policy server, until Python takes over.
 *
 * Everything that the invoker could have prepared to stop, starve or confuse a server is undone
 * here: ids, session, directory, signals, scheduling, limits, descriptors. Part of launch.c. */

/* Tells the launcher why there is no server, by a refusal in place of the reply it waits for. */
static NORETURN void server_failed(int channel, const char *text, long error) {
    static struct reply refusal;
    refusal.magic = REPLY_MAGIC;
    refusal.version = PROTOCOL_VERSION;
    refusal.kind = REPLY_REFUSE;
    refusal.exit_code = EXIT_INTERNAL;
    refusal.length = (u32)append(refusal.text, compose(refusal.text, "", text, error), " (internal)");
    send_packet(channel, &refusal, REPLY_HEAD + refusal.length, -1);
    for (;;)
        sys(SYS_exit_group, EXIT_INTERNAL);
}

/* Soft limits always go to the hard ones; hard ones too where CAP_SYS_RESOURCE is there. */
static long lift_limits(void) {
    long result = 0;
    for (u64 resource = 0; resource < RLIMITS && result == 0; resource++) {
        struct limit old, want = { ~0UL, ~0UL };
        if (resource == RLIMIT_NICE || resource == RLIMIT_RTPRIO)
            continue;
        if (resource == RLIMIT_CORE)
            want.soft = want.hard = 0;
        if (resource == RLIMIT_STACK) /* unlimited would change the memory layout */
            want.soft = 8 << 20;
        if (resource == RLIMIT_NOFILE) /* the kernel has a maximum of its own here */
            want.soft = want.hard = 65536;
        if (sys(SYS_prlimit64, 0, resource, &want, &old) == 0)
            continue;
        sys(SYS_prlimit64, 0, resource, 0, &old);
        want.hard = old.hard;
        want.soft = want.soft < old.hard ? want.soft : old.hard;
        result = sys(SYS_prlimit64, 0, resource, &want);
    }
    return result;
}

static void become_root(int channel) {
    u32 u[3] = { 1, 1, 1 }, g[3] = { 1, 1, 1 };
    sys(SYS_setresuid, 0, 0, 0); /* first: until now the invoker may kill this process */
    sys(SYS_setresgid, 0, 0, 0);
    sys(SYS_setgroups, 0, 0);
    sys(SYS_getresuid, u, u + 1, u + 2);
    sys(SYS_getresgid, g, g + 1, g + 2);
    if (u[0] | u[1] | u[2] | g[0] | g[1] | g[2] || sys(SYS_getgroups, 0, 0) != 0)
        server_failed(channel, "the policy server could not become root", 0);
}

/* Idle class, a low priority, one crowded processor and a huge timer slack are all inherited. Where
 * nobody has CAP_SYS_NICE, as in many containers, the kernel says no: then the server is as slow as
 * the invoker made it, and what it has not judged waits. A yes is read back. */
static void reset_scheduling(int channel, int privileged) {
    u64 all_processors[16], normal = 0;
    memset(all_processors, 0xff, sizeof all_processors);
    long class = sys(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal);
    long nice = sys(SYS_setpriority, 0, 0, 0);
    sys(SYS_sched_setaffinity, 0, sizeof all_processors, all_processors);
    sys(SYS_ioprio_set, 1, 0, 0);
    sys(SYS_prctl, PR_SET_TIMERSLACK, 50000); /* ns, the kernel's default */
    if (privileged && ((class != -E_PERM && sys(SYS_sched_getscheduler, 0) != SCHED_OTHER)
                       || (nice != -E_ACCES && sys(SYS_getpriority, 0, 0) < 20))) /* 20 - nice */
        server_failed(channel, "the policy server cannot leave the invoker's scheduling", 0);
}

static NORETURN void become_server(int channel, int privileged) {
    u64 action[4] = { 0 }, none = 0; /* SIG_DFL; no signal blocked */
    long error;
    if (privileged)
        become_root(channel);
    sys(SYS_setsid);
    sys(SYS_umask, 077);
    sys(SYS_personality, 0); /* UNAME26 would lie about the kernel's version */
    for (int signal = 1; signal <= SIGNALS; signal++)
        sys(SYS_rt_sigaction, signal, action, 0, 8);
    sys(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
    reset_scheduling(channel, privileged);
    if ((error = sys(SYS_chdir, "/")) < 0 || (error = lift_limits()) < 0)
        server_failed(channel, "the policy server cannot leave the invoker's limits", error);

    error = channel == 3 ? sys(SYS_fcntl, 3, F_SETFD, 0) : sys(SYS_dup3, channel, 3, 0);
    if (error < 0 || (error = sys(SYS_close_range, 4, ~0U, 0)) < 0)
        server_failed(channel, "the policy server cannot leave the invoker's descriptors", error);
    for (int fd = 0; fd <= 2; fd++) {
        sys(SYS_close, fd);
        if (sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR) != fd)
            server_failed(3, "the policy server cannot open \"/dev/null\"", 0);
    }
    const char *argv[] = { "python", "-I", "-S", SERVER, 0 }, *environment[] = { 0 };
    error = sys(SYS_execve, PYTHON, argv, environment);
    server_failed(3, "certexec is not set up: \"" PYTHON "\" cannot be executed", error);
}
