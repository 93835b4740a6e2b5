# a database with a write-ahead log, locks and a backup
set -e
sqlite3 t.db <<'X'
pragma journal_mode=wal;
create table t(a integer primary key, b text);
begin; with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x, hex(x*7) from c; commit;
select count(*), sum(a), max(b) from t; create index i on t(b); select * from t where b='3131' ; vacuum; pragma integrity_check;
.backup 'b.db'
X
sqlite3 b.db 'select count(*) from t'; sqlite3 t.db .schema; (sqlite3 t.db 'begin exclusive; select 1;' ; sqlite3 t.db 'delete from t where a>10; select count(*) from t'); sqlite3 :memory: 'select sqlite_version() > "3"'; ls
