# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Questions that nobody who counts permits: each try makes a directory, which is asked about.
sys.path.insert(0, MORE[0])
from certexec.run import agent_protocol as protocol  # noqa: E402

CROWD = 100  # more questions at a time than one tree may have
AGENT = f"/run/user/{os.getuid()}/certexec"

def ask(number):
    done = why(os.mkdir, f"{GOOD}/asked-{os.getpid()}-{number}")
    return ESCAPED if done == "ok" else of(done)

def serve(server):
    "Answer every question as an agent would that permits everything."
    while True:
        one, _ = server.accept()
        try:
            one.recv(9999)
            one.send(protocol.accept())
            data = one.recv(1 << 18)
            if data:
                one.send(protocol.answer(protocol.read(data)["id"], "permit"))
                one.recv(1)
        except OSError:
            pass
        one.close()

def own_agent():
    "Listen elsewhere, and bring the socket to the agent's place."
    def be_agent():
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(elsewhere)
        server.listen(4096)
        os.rename(elsewhere, f"{AGENT}/agent.sock")
        serve(server)
    elsewhere = f"/run/user/{os.getuid()}/another"
    os.makedirs(AGENT, 0o700, exist_ok=True)
    in_background(be_agent)
    while "agent.sock" not in os.listdir(AGENT):  # nobody of the tree may look at it itself
        time.sleep(0.01)

def given_socket():
    "An agent's socket was left open when we were started: its listener is outside, and lives."
    in_background(serve, socket.socket(fileno=int(MORE[1])))

START = {"own_agent": own_agent, "given_socket": given_socket}
START.get(KIND, lambda: None)()
play_in_crowd(ask, CROWD)
