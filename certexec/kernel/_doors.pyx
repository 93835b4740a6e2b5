# cython: language_level=3, binding=False, boundscheck=True, overflowcheck=False
# cython: embedsignature=False, auto_pickle=False, always_allow_keywords=False
"""The doors to the kernel that the supervisor uses for every call, without ctypes in between.

Mechanism only: each function makes one kind of system call and says what came of it, exactly as the
Python of the same name beside it does (libc.py, notify.py, memory.py), which is used where this is
not compiled. tests/kernel/test_doors.py holds both to the same words.

Registers are unsigned 64-bit numbers throughout. Every call gives the interpreter to other threads
while it may wait; errno is kept before that is over, since others' calls change it.

Sources: seccomp_unotify(2), process_vm_readv(2), syscall(2).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, EFAULT, EINPROGRESS, EINTR, ENOENT, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memchr, memset, strerror

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long operation, ...)

cdef extern from "<unistd.h>" nogil:
    long syscall_of_libc "syscall"(long number, ...)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t process_vm_readv(
        int tid, const iovec *local, unsigned long count, const iovec *remote,
        unsigned long remotes, unsigned long flags)
    ssize_t process_vm_writev(
        int tid, const iovec *local, unsigned long count, const iovec *remote,
        unsigned long remotes, unsigned long flags)

cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLongMask(object number) except? -1

# linux/seccomp.h may be older than the kernel: its structures and numbers as they are for ever
cdef struct notification:
    uint64_t cookie
    uint32_t tid
    uint32_t flags
    int32_t nr
    uint32_t arch
    uint64_t instruction
    uint64_t args[6]

cdef struct response:
    uint64_t cookie
    int64_t value
    int32_t error
    uint32_t flags

cdef struct added:
    uint64_t cookie
    uint32_t flags
    uint32_t source
    uint32_t number
    uint32_t number_flags

cdef enum:
    REGISTERS = 6
    PAGE = 4096
    FIRST_LOOK = 256  # bytes of a string that are copied first: few names of files are longer
    NOT_THERE = -1
    BAD_ADDRESS = -2

cdef unsigned long NOTIF_RECV = 0xC0502100
cdef unsigned long NOTIF_SEND = 0xC0182101
cdef unsigned long NOTIF_ID_VALID = 0x40082102
cdef unsigned long NOTIF_ADDFD = 0x40182103
cdef uint64_t SPACE_END = <uint64_t>1 << 63

if sizeof(notification) != 80 or sizeof(response) != 24 or sizeof(added) != 24:
    raise ImportError("not the kernel's structures")


cdef object failure(int code):
    return OSError(code, strerror(code).decode("utf-8", "replace"))


cdef int control(int fd, unsigned long operation, void *argument) noexcept:
    """Return what the ioctl gave, or -errno."""
    cdef int done
    with nogil:
        done = ioctl(fd, operation, argument)
        if done < 0:
            done = -errno
    return done


cdef int control_on(int fd, unsigned long operation, void *argument) except? -1:
    """The same, again after each signal; raises what a signal's handler raised."""
    cdef int done
    while True:
        done = control(fd, operation, argument)
        if done != -EINTR:
            return done
        PyErr_CheckSignals()


def receive(int listener):
    """As ``notify._receive``."""
    cdef notification one
    memset(&one, 0, sizeof(one))  # the kernel insists on zeroes
    cdef int done = control(listener, NOTIF_RECV, &one)
    if done < 0:
        if done in (-ENOENT, -EINTR, -EAGAIN):
            return None
        raise failure(-done)
    cdef uint64_t *a = one.args
    return one.cookie, one.tid, one.nr, one.arch, (a[0], a[1], a[2], a[3], a[4], a[5])


def is_valid(int listener, uint64_t cookie):
    """As ``notify._is_valid``."""
    return control_on(listener, NOTIF_ID_VALID, &cookie) >= 0


def respond(int listener, uint64_t cookie, int64_t value, int32_t error, uint32_t flags):
    """As ``notify._respond``."""
    cdef response one
    one.cookie, one.value, one.error, one.flags = cookie, value, error, flags
    cdef int done = control_on(listener, NOTIF_SEND, &one)
    if done < 0 and done not in (-ENOENT, -EINPROGRESS):
        raise failure(-done)
    return done >= 0  # else it is gone, or has its answer already


def add_fd(int listener, uint64_t cookie, int fd, uint32_t flags):
    """As ``notify._add_fd``."""
    cdef added one
    memset(&one, 0, sizeof(one))
    one.cookie, one.source, one.number_flags = cookie, <uint32_t>fd, flags
    cdef int done = control_on(listener, NOTIF_ADDFD, &one)
    if done < 0:
        raise failure(-done)
    return done


cdef ssize_t copy_text(int tid, uint64_t address, size_t limit, char *room) noexcept nogil:
    """Return a text's length: what is copied never goes beyond the page it is known to reach into.

    NOT_THERE: no NUL within the limit; BAD_ADDRESS.
    """
    cdef size_t done = 0, look = FIRST_LOOK, size
    cdef iovec to, source
    cdef char *end
    while done < limit:
        size = min(PAGE - address % PAGE, limit - done, look)
        if address >= SPACE_END:
            return BAD_ADDRESS
        to.iov_base, to.iov_len = room + done, size
        source.iov_base, source.iov_len = <void *><uintptr_t>address, size
        if process_vm_readv(tid, &to, 1, &source, 1, 0) != <ssize_t>size:
            return BAD_ADDRESS
        end = <char *>memchr(room + done, 0, size)
        if end != NULL:
            return end - room
        done += size
        address += size
        look = PAGE
    return NOT_THERE


def read_text(int tid, uint64_t address, size_t limit):
    """As ``memory.read_text``."""
    cdef char page[PAGE]
    cdef char *room = page
    cdef ssize_t size
    if limit > sizeof(page):
        room = <char *>PyMem_Malloc(limit)
        if room == NULL:
            raise MemoryError
    try:
        with nogil:
            size = copy_text(tid, address, limit, room)
        if size == NOT_THERE:
            return None
        if size == BAD_ADDRESS:
            raise failure(EFAULT)
        return PyBytes_FromStringAndSize(room, size)
    finally:
        if room != page:
            PyMem_Free(room)


def copy(bint writes, int tid, here, uint64_t address):
    """As ``memory._copy``."""
    cdef Py_buffer held
    cdef iovec ours, theirs
    cdef ssize_t done
    cdef int code = 0
    PyObject_GetBuffer(here, &held, PyBUF_SIMPLE if writes else PyBUF_WRITABLE)
    try:
        ours.iov_base, ours.iov_len = held.buf, held.len
        theirs.iov_base, theirs.iov_len = <void *><uintptr_t>address, held.len
        with nogil:
            if writes:
                done = process_vm_writev(tid, &ours, 1, &theirs, 1, 0)
            else:
                done = process_vm_readv(tid, &ours, 1, &theirs, 1, 0)
            if done < 0:
                code = errno
    finally:
        PyBuffer_Release(&held)
    if done < 0:
        raise failure(code)
    return done


def syscall(number, *arguments):
    """As ``libc.syscall``: numbers are registers, bytes and writable buffers go by address."""
    cdef unsigned long words[REGISTERS]
    cdef Py_buffer held[REGISTERS]
    cdef int buffers = 0, code = 0
    cdef Py_ssize_t index = 0
    cdef long which, done
    if not isinstance(number, int) or len(arguments) > REGISTERS:
        raise TypeError("syscall takes a number and at most 6 arguments")
    which = number
    memset(words, 0, sizeof(words))
    try:
        for one in arguments:
            if isinstance(one, int):
                words[index] = PyLong_AsUnsignedLongLongMask(one)
            elif isinstance(one, bytes):
                words[index] = <unsigned long>PyBytes_AsString(one)
            elif one is not None:
                PyObject_GetBuffer(one, &held[buffers], PyBUF_WRITABLE)
                words[index] = <unsigned long>held[buffers].buf
                buffers += 1
            index += 1
        with nogil:
            done = syscall_of_libc(
                which, words[0], words[1], words[2], words[3], words[4], words[5])
            if done == -1:
                code = errno
    finally:
        while buffers > 0:
            buffers -= 1
            PyBuffer_Release(&held[buffers])
    if done == -1:
        raise failure(code)
    return done


# -- who asks the resident server ---------------------------------------------------------------

cdef extern from "<fcntl.h>" nogil:
    int openat(int directory, const char *name, int flags, ...)
    enum: AT_FDCWD
    enum: O_RDONLY
    enum: O_CLOEXEC
    enum: O_DIRECTORY

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *room, size_t size)
    ssize_t readlinkat(int directory, const char *name, char *room, size_t size)
    int close(int fd)

cdef enum:
    O_PATH = 0o10000000
    CALL_SCHED_GETSCHEDULER = 145
    CALL_GETPRIORITY = 140
    CALL_PRLIMIT64 = 302
    CALL_STATX = 332
    NICE_OFFSET = 20  # getpriority(2) as a raw call: 20 less the nice value
    WITHOUT_WAITING = 0x4000  # AT_STATX_DONT_SYNC
    WANTED = 0x1FFF  # STATX_BASIC_STATS, STATX_BTIME, STATX_MNT_ID
    MOUNTS = 0x5000  # STATX_MNT_ID, STATX_MNT_ID_UNIQUE
    LIMITS = 16
    TEXT_ROOM = 16384
    LINK_ROOM = 128

cdef struct limit:
    uint64_t soft
    uint64_t hard

cdef union file_facts:  # struct statx
    char room[256]
    uint32_t words[64]
    uint64_t longs[32]

cdef const char *SPACES[8]
SPACES[:] = [
    b"ns/cgroup", b"ns/ipc", b"ns/mnt", b"ns/net", b"ns/pid", b"ns/time", b"ns/user", b"ns/uts",
]


cdef object text_of(int directory, const char *name):
    """Return what stands in a file; raises OSError."""
    cdef char room[TEXT_ROOM]
    cdef ssize_t size = 0
    cdef int code = 0
    cdef int fd = openat(directory, name, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        raise failure(errno)
    text = None
    try:
        while True:
            size = read(fd, room, sizeof(room))
            if size < 0:
                code = errno
                raise failure(code)
            if size == 0:
                return b"" if text is None else text
            piece = PyBytes_FromStringAndSize(room, size)
            text = piece if text is None else text + piece
    finally:
        close(fd)


cdef object text_or_none(int directory, const char *name, bint only_missing):
    """The same; b"" where it cannot be read, or only where there is no such file."""
    try:
        return text_of(directory, name)
    except OSError as error:
        if only_missing and error.errno != ENOENT:
            raise
        return b""


cdef object space_of(int directory, const char *name):
    cdef char room[LINK_ROOM]
    cdef ssize_t size = readlinkat(directory, name, room, sizeof(room))
    if size < 0:
        if errno == ENOENT:
            return b""
        raise failure(errno)
    return PyBytes_FromStringAndSize(room, size)


cdef object spot_of(int directory, const char *name):
    cdef file_facts found
    memset(&found, 0, sizeof(found))
    if syscall_of_libc(CALL_STATX, directory, name, WITHOUT_WAITING, WANTED, &found) < 0:
        raise failure(errno)
    # stx_mask, stx_ino, stx_dev_major and _minor, stx_mnt_id
    mount = found.longs[18] if found.words[0] & MOUNTS else None
    return (found.words[34], found.words[35]), found.longs[4], mount


def look(bytes directory, int pid):
    """As ``circumstances._look``."""
    cdef limit one
    cdef long scheduler, nice
    cdef int fd = openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC)
    if fd < 0:
        raise failure(errno)
    try:
        status = text_of(fd, b"status")
        spaces = tuple([space_of(fd, SPACES[index]) for index in range(8)])
        root = spot_of(fd, b"root")
        label = text_or_none(fd, b"attr/current", False)
        program = spot_of(fd, b"exe")
        scheduler = syscall_of_libc(CALL_SCHED_GETSCHEDULER, pid)
        if scheduler < 0:
            raise failure(errno)
        limits = []
        for index in range(LIMITS):
            if syscall_of_libc(CALL_PRLIMIT64, pid, <long>index, NULL, &one) < 0:
                raise failure(errno)
            limits.append((<int64_t>one.soft, <int64_t>one.hard))  # none is -1, as in resource
        nice = syscall_of_libc(CALL_GETPRIORITY, 0, pid)
        if nice < 0:
            raise failure(errno)
        return (
            status, spaces, root, label, program, scheduler, tuple(limits), NICE_OFFSET - nice,
            text_of(fd, b"oom_score_adj"), text_or_none(fd, b"loginuid", True),
            text_of(fd, b"cgroup"),
        )
    finally:
        close(fd)


cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    ssize_t recvmsg(int fd, msghdr *message, int flags)
    enum: SOL_SOCKET
    enum: SCM_CREDENTIALS
    enum: MSG_PEEK
    enum: MSG_DONTWAIT

cdef struct credentials:  # a struct cmsghdr with a struct ucred, and what aligns the next one
    uint64_t length
    int32_t level
    int32_t kind
    char content[16]

cdef enum:
    PEEK_MAX = 64
    UCRED = 12


def peek(int fd):
    """As ``packets._peek``."""
    cdef char room[PEEK_MAX]
    cdef credentials told
    cdef iovec piece
    cdef msghdr message
    cdef ssize_t size
    while True:
        memset(&message, 0, sizeof(message))
        memset(&told, 0, sizeof(told))
        piece.iov_base, piece.iov_len = room, sizeof(room)
        message.msg_iov, message.msg_iovlen = &piece, 1
        message.msg_control, message.msg_controllen = &told, sizeof(told)
        size = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT)
        if size >= 0:
            break
        if errno == EAGAIN:
            return None
        if errno != EINTR:
            raise failure(errno)
        PyErr_CheckSignals()
    sender = b""
    if (message.msg_controllen >= 16 + UCRED and told.length == 16 + UCRED
            and told.level == SOL_SOCKET and told.kind == SCM_CREDENTIALS):
        sender = PyBytes_FromStringAndSize(told.content, UCRED)
    return PyBytes_FromStringAndSize(room, size), sender, message.msg_flags
