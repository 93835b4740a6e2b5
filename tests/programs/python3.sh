# the interpreter's own tests of what touches files, processes, sockets and threads
/usr/bin/python3 -m test "$@" 2>&1 |
    grep -E '^(FAIL|ERROR):|^test .* (failed|crashed)|[Rr]esult' | sort
