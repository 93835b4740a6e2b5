/* The doors to the kernel that the supervisor uses for every call, without ctypes in between.
 *
 * Mechanism only: each function makes one kind of system call and says what came of it, exactly as
 * the Python of the same name beside it does (libc.py, notify.py, memory.py), which is used where
 * this is not compiled. tests/kernel/test_doors.py holds both to the same words.
 *
 * One file for every CPython from 3.11 on (Py_LIMITED_API). Registers are unsigned 64-bit numbers
 * throughout. Every call gives the interpreter to other threads while it may wait.
 *
 * Sources: seccomp_unotify(2), process_vm_readv(2), syscall(2), Python's "Stable ABI".
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define NOTIF_RECV 0xC0502100UL
#define NOTIF_SEND 0xC0182101UL
#define NOTIF_ID_VALID 0x40082102UL
#define NOTIF_ADDFD 0x40182103UL

enum {
    REGISTERS = 6,
    PAGE = 4096,
    FIRST_LOOK = 256, /* bytes of a string that are copied first: few names of files are longer */
};
static const uint64_t SPACE_END = 1ULL << 63;

/* struct seccomp_notif, seccomp_notif_resp and seccomp_notif_addfd of linux/seccomp.h */
struct notification {
    uint64_t cookie;
    uint32_t tid, flags;
    int32_t nr;
    uint32_t arch;
    uint64_t instruction, args[REGISTERS];
};
struct response {
    uint64_t cookie;
    int64_t value;
    int32_t error;
    uint32_t flags;
};
struct add_fd {
    uint64_t cookie;
    uint32_t flags, source, number, number_flags;
};
_Static_assert(sizeof(struct notification) == 80, "struct seccomp_notif");
_Static_assert(sizeof(struct response) == 24, "struct seccomp_notif_resp");
_Static_assert(sizeof(struct add_fd) == 24, "struct seccomp_notif_addfd");

static PyObject *last_error(void)
{
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
    return 0;
}

/* A number of C's int, or -1 with an exception: out of range is no number at all. */
static int as_int(PyObject *given)
{
    long value = PyLong_AsLong(given);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value != (int)value) {
        PyErr_SetString(PyExc_OverflowError, "no C int");
        return -1;
    }
    return (int)value;
}

static int control(int fd, unsigned long operation, void *argument)
{
    int done;
    Py_BEGIN_ALLOW_THREADS
    done = ioctl(fd, operation, argument);
    Py_END_ALLOW_THREADS
    return done;
}

/* The same, again after each signal; -2 where a signal's handler raised. */
static int control_on(int fd, unsigned long operation, void *argument)
{
    for (;;) {
        int done = control(fd, operation, argument);
        if (done >= 0 || errno != EINTR)
            return done;
        if (PyErr_CheckSignals() < 0)
            return -2;
    }
}

static PyObject *receive(PyObject *module, PyObject *listener)
{
    (void)module;
    struct notification one;
    memset(&one, 0, sizeof one); /* the kernel insists on zeroes */
    int fd = as_int(listener);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (control(fd, NOTIF_RECV, &one) < 0) {
        if (errno == ENOENT || errno == EINTR || errno == EAGAIN)
            Py_RETURN_NONE;
        return last_error();
    }
    const uint64_t *a = one.args;
    return Py_BuildValue("KIiI(KKKKKK)", (unsigned long long)one.cookie, one.tid, one.nr, one.arch,
                         (unsigned long long)a[0], (unsigned long long)a[1],
                         (unsigned long long)a[2], (unsigned long long)a[3],
                         (unsigned long long)a[4], (unsigned long long)a[5]);
}

static PyObject *is_valid(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    if (!arguments("is_valid", count, 2))
        return NULL;
    int fd = as_int(given[0]);
    uint64_t cookie = PyLong_AsUnsignedLongLong(given[1]);
    if (PyErr_Occurred())
        return NULL;
    int done = control_on(fd, NOTIF_ID_VALID, &cookie);
    return done == -2 ? NULL : PyBool_FromLong(done >= 0);
}

static PyObject *respond(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    if (!arguments("respond", count, 5))
        return NULL;
    int fd = as_int(given[0]);
    struct response one = {.cookie = PyLong_AsUnsignedLongLong(given[1])};
    one.value = PyLong_AsLongLong(given[2]);
    one.error = as_int(given[3]);
    one.flags = (uint32_t)as_int(given[4]);
    if (PyErr_Occurred())
        return NULL;
    int done = control_on(fd, NOTIF_SEND, &one);
    if (done == -2)
        return NULL;
    if (done < 0 && errno != ENOENT && errno != EINPROGRESS)
        return last_error();
    return PyBool_FromLong(done >= 0); /* else it is gone, or has its answer already */
}

static PyObject *add_fd(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    if (!arguments("add_fd", count, 4))
        return NULL;
    int fd = as_int(given[0]);
    struct add_fd one = {.cookie = PyLong_AsUnsignedLongLong(given[1])};
    one.source = (uint32_t)as_int(given[2]);
    one.number_flags = (uint32_t)as_int(given[3]);
    if (PyErr_Occurred())
        return NULL;
    int done = control_on(fd, NOTIF_ADDFD, &one);
    if (done == -2)
        return NULL;
    return done < 0 ? last_error() : PyLong_FromLong(done);
}

/* Copy a text page by page: what the kernel is asked for never goes beyond the page that the text
 * is known to reach into. Its length, -1 where there is no NUL within the limit, -2 for a bad
 * address. */
static Py_ssize_t copy_text(pid_t tid, uint64_t address, size_t limit, char *room)
{
    size_t done = 0, look = FIRST_LOOK;
    while (done < limit) {
        size_t size = PAGE - address % PAGE;
        if (size > limit - done)
            size = limit - done;
        if (size > look)
            size = look;
        if (address >= SPACE_END)
            return -2;
        struct iovec to = {room + done, size}, from = {(void *)(uintptr_t)address, size};
        if (process_vm_readv(tid, &to, 1, &from, 1, 0) != (ssize_t)size)
            return -2;
        char *end = memchr(room + done, 0, size);
        if (end != NULL)
            return end - room;
        done += size;
        address += size;
        look = PAGE;
    }
    return -1;
}

static PyObject *read_text(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    if (!arguments("read_text", count, 3))
        return NULL;
    pid_t tid = as_int(given[0]);
    uint64_t address = PyLong_AsUnsignedLongLong(given[1]);
    size_t limit = PyLong_AsSize_t(given[2]);
    if (PyErr_Occurred())
        return NULL;
    char page[PAGE], *room = page;
    if (limit > sizeof page) {
        room = PyMem_Malloc(limit);
        if (room == NULL)
            return PyErr_NoMemory();
    }
    Py_ssize_t size;
    Py_BEGIN_ALLOW_THREADS
    size = copy_text(tid, address, limit, room);
    Py_END_ALLOW_THREADS
    PyObject *text = NULL;
    if (size >= 0) {
        text = PyBytes_FromStringAndSize(room, size);
    } else if (size == -1) {
        text = Py_None;
        Py_INCREF(text);
    } else {
        errno = EFAULT;
        last_error();
    }
    if (room != page)
        PyMem_Free(room);
    return text;
}

/* syscall(number, ...): numbers are registers, bytes and writable buffers go by address, None is 0 */
static PyObject *raw_syscall(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    if (count < 1 || count > 1 + REGISTERS) {
        PyErr_SetString(PyExc_TypeError, "syscall takes a number and at most 6 arguments");
        return NULL;
    }
    Py_buffer held[REGISTERS];
    int buffers = 0;
    long done = -1;
    long words[REGISTERS] = {0};
    long number = PyLong_AsLong(given[0]);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    for (Py_ssize_t index = 0; index < count - 1; index++) {
        PyObject *one = given[index + 1];
        if (PyLong_Check(one)) {
            words[index] = (long)PyLong_AsUnsignedLongLongMask(one);
            if (PyErr_Occurred())
                goto out;
        } else if (PyBytes_Check(one)) {
            words[index] = (long)(uintptr_t)PyBytes_AsString(one);
        } else if (one != Py_None) {
            if (PyObject_GetBuffer(one, &held[buffers], PyBUF_WRITABLE) < 0)
                goto out;
            words[index] = (long)(uintptr_t)held[buffers++].buf;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    done = syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
    Py_END_ALLOW_THREADS
    if (done == -1)
        last_error();
out:
    while (buffers > 0)
        PyBuffer_Release(&held[--buffers]);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(done);
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL
static PyMethodDef functions[] = {
    {"receive", receive, METH_O, NULL},
    {"is_valid", FAST(is_valid), NULL},
    {"respond", FAST(respond), NULL},
    {"add_fd", FAST(add_fd), NULL},
    {"read_text", FAST(read_text), NULL},
    {"syscall", FAST(raw_syscall), NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "certexec.kernel._doors", NULL, 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__doors(void)
{
    return PyModuleDef_Init(&definition);
}
