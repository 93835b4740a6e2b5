# compile, link, archive; make with several jobs
set -e
cat > m.c <<'X'
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
int f(int);
int main(int c,char**v){printf("%d %.3f\n",f(c),sqrt(2));return 3;}
X
cat > f.c <<'X'
int f(int x){return x*42;}
X
gcc -O2 -Wall -c m.c -o m.o; gcc -O2 -c f.c -o f.o; ar rcs libf.a f.o; gcc m.o -L. -lf -lm -o prog; ./prog || echo $?
gcc -shared -fPIC f.c -o libg.so; gcc m.c -L. -lg -lm -o prog2; LD_LIBRARY_PATH=. ./prog2 || echo $?; gcc -E m.c | grep -c printf; gcc nothere.c 2>&1 || echo $?; gcc -flto -O3 m.c f.c -lm -o p3; ./p3 a b || echo $?; strip prog; nm libf.a; file prog >/dev/null 2>&1 || true; make -v | head -1
cat > Makefile <<'X'
all: a b
a b: %: %.c
	gcc -o $@ $<
X
echo 'int main(){return 0;}' > a.c; cp a.c b.c; make -j4 -s; ./a; ./b; make -s; ls
