# compile, archive and link, with several jobs
set -e
for f in a b c d; do echo "int $f(int x){return x*3;}" > $f.c; done
echo 'int a(int),b(int); int main(){return a(1)+b(1)-6;}' > main.c
printf 'OBJS=main.o a.o b.o c.o d.o\nprog: $(OBJS)\n\tgcc -o $@ $(OBJS)\n%%.o: %%.c\n\tgcc -O1 -c -o $@ $<\n' > Makefile
make -s -j3; ./prog; ar rcs libf.a a.o b.o; gcc -flto -O2 main.c a.c b.c -o p2; ./p2; echo built; ls
