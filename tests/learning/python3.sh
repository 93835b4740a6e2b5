# the interpreter with processes, threads and temporary files
/usr/bin/python3 - <<'X'
import json, os, subprocess, sys, tempfile, threading, hashlib, socket
with tempfile.TemporaryDirectory() as d:
    open(os.path.join(d, "x"), "w").write("y" * 9)
    print(subprocess.run(["cat", os.path.join(d, "x")], capture_output=True, text=True).stdout)
with tempfile.NamedTemporaryFile() as f:
    f.write(b"1"); f.flush(); print(os.path.getsize(f.name))
print(subprocess.check_output("echo $((1+1)); uname -s", shell=True, text=True))
t = threading.Thread(target=lambda: print(hashlib.sha256(b"a").hexdigest())); t.start(); t.join()
p = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"]); print(p.wait())
p = subprocess.Popen(["sleep", "9"]); p.terminate(); print(p.wait())
open("out.json", "w").write(json.dumps({"a": 1})); print(open("out.json").read())
X
cat > pool.py <<'Y'
import multiprocessing
if __name__ == "__main__":
    pool = multiprocessing.get_context("forkserver").Pool(2)
    print(pool.map(abs, [-1, 2]))
    pool.close()  # who terminates it signals those that have not ended by then: one run none
    pool.join()
Y
/usr/bin/python3 pool.py
