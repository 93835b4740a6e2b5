# what a shell and configure do: names that are new each time, pipes without names, links to nowhere
set -e
f=$(mktemp); echo temporary > $f; cat $f; rm $f
# three: two of a hundred such names look like words, and a word stands for itself
for i in 1 2 3; do d=$(mktemp -d ./confXXXXXX); echo x > $d/x; ls $d; rm -r $d; done
diff <(echo one) <(echo two) || true
rm -f conf$$ conf$$.file conf$$.dir/conf$$.file; mkdir conf$$.dir
ln -s conf$$.file conf$$.dir; ls conf$$.dir/conf$$.file 2>&1 | grep -c file; rm conf$$.dir/conf$$.file
echo echo made > conf$$subs.sh; . ./conf$$subs.sh; rm -r conf$$.dir conf$$subs.sh
sleep 60 & kill $!; wait $! || echo $?
cat /dev/stdin <<< "$(seq 30000)" | wc -l
mkdir gone; cd gone; rmdir ../gone; ls; cd ..
