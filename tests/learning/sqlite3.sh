# a database with a write-ahead log and a backup
set -e
sqlite3 t.db <<'X'
pragma journal_mode=wal;
create table t(a integer primary key, b text);
begin; with recursive c(x) as (select 1 union all select x+1 from c where x<2000) insert into t select x, hex(x*7) from c; commit;
select count(*), sum(a), max(b) from t; vacuum; pragma integrity_check;
.backup 'b.db'
X
sqlite3 b.db 'pragma journal_mode=delete; delete from t where a>10; select count(*) from t'; ls
