# An agent outside the tree. usage: agent.py PACKAGE MODE. It never permits a question that it was
# asked; what it says instead must not count as a permission.
import itertools
import sys

sys.path.insert(0, sys.argv[1])
from certexec.run import agent_protocol as protocol  # noqa: E402
from certexec.run.agent import Agent, Question  # noqa: E402

MODE = sys.argv[2]
numbers = itertools.count()


def hang_up(question: Question) -> None:
    question._connection.socket.shutdown(2)  # SHUT_RDWR


def babble(question: Question) -> None:
    question._connection.send(b"permit")


def ramble(question: Question) -> None:
    question._connection.send(protocol.answer(question._number, "permit") + bytes(4096))


def answer_another(question: Question) -> None:
    other = question._number + (1, -1, 1 << 32, 7)[next(numbers) % 4]
    question._connection.send(protocol.answer(max(other, 0), "permit"))


WAYS = {
    "deny": [lambda question: question.answer("deny")],
    "another": [answer_another],
    "nothing": [hang_up, babble, ramble],
}[MODE]
agent = Agent()
print("ready", flush=True)
while True:
    asked = agent.wait()
    if asked is not None:
        WAYS[next(numbers) % len(WAYS)](asked)
