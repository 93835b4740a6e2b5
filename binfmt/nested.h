/* Steps 5 and 6 inside a confined tree: no server is started, no socket is made. The supervisor around
 * us answers the question of step 2 with a memory file and a second one with the program. Before, it
 * has seen at our exec stop that we are the launcher. Part of launch.c. */

/* The message is the same as elsewhere, the plan lies behind it. */
static void fetch_nested_plan(struct reply *reply) {
    long length = sys(SYS_pread64, self.message, reply, sizeof *reply, 0);
    heed(reply, length < 0 ? 0 : (u64)length);
    self.reason = "nested"; /* somebody else's filter may have answered anything */
    require(length >= REPLY_HEAD && announces_plan(reply), INSIDE);
    u8 *memory = map(reply->length);
    length = sys(SYS_pread64, self.message, memory, reply->length, REPLY_HEAD);
    self.reason = "unsupported";
    block = memory;
    plan = (const struct plan *)memory;
    require(length == reply->length && plan->size == reply->length,
            "the plan's size is not the one announced");
    sys(SYS_close, self.message);
    sys(SYS_close, self.certificate);
    self.program = (s32)sys(SYS_prctl, NESTED_PROBE, ASK_PROGRAM);
    self.reason = "nested";
    require(self.program >= 0, "the supervisor did not hand over the program");
    s32 low = self.program; /* a script's descriptor stays: not in the place of a standard one */
    if (low <= 2) {
        self.program = (s32)sys(SYS_fcntl, low, F_DUPFD_CLOEXEC, 3);
        expect(self.program > 2, "no descriptor for the program");
        sys(SYS_close, low);
    }
    sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &self.nofile);
}
