# jobs, signals, pipes, descriptors
trap 'echo got usr1' USR1
sleep 5 & p=$!; kill $p; wait $p; echo "status $?"
(kill -USR1 $$; sleep 0.2); echo after
set -m; sleep 3 & jobs | sed 's/ *sleep.*//'; kill -STOP %1; sleep 0.2; jobs | cut -c1-20; kill -CONT %1; kill %1; wait %1 2>/dev/null; echo $?
cat <(echo subst) <(echo two); echo here <<< x; exec 5<>fifo.txt; echo hello >&5; cat fifo.txt; exec 5>&-
for i in $(seq 40); do /bin/true; done; echo forty; (exit 7); echo $?; { echo a; false; } | cat; echo ${PIPESTATUS[@]}
coproc cat; echo to >&${COPROC[1]}; read line <&${COPROC[0]}; echo "co $line"; eval "exec ${COPROC[1]}>&-"; wait $COPROC_PID 2>/dev/null
diff <(seq 5) <(seq 6); printf '%s\n' /usr/bin/ba*h; cd /; pwd; type -t cd; ulimit -n > /dev/null; f() { local x=$1; echo "f $x"; }; f 1; trap - USR1; timeout -s INT 0.3 bash -c 'trap "echo int; exit 3" INT; while :; do sleep 0.1; done'; echo $?
