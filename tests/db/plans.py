"""How Postgres runs what a verb really executes: every statement is explained just before it is run.

Refuses to know the statements: none is copied into a test.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from db.session import Database

FEW_ROWS = 1000
_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


@dataclass(frozen=True)
class Plan:
    """One statement, and how it was run.

    Attributes:
        statement: as it was sent.
        root: the plan's top node, as Postgres gives it.
        milliseconds: to plan and to run it, with the cost of watching.
    """

    statement: str
    root: Mapping[str, Any]
    milliseconds: float

    @property
    def buffers(self) -> int:
        """Pages of 8 KiB that were looked at, more than once where they were looked at again."""
        # A part that only writes is run after the rest, and is not counted in the top node.
        return max(_buffers(node) for node in _nodes(self.root))

    @property
    def scanned(self) -> set[str]:
        """The tables that were read from end to end, but for those with a few rows."""
        scans = (node for node in _nodes(self.root) if node["Node Type"] == "Seq Scan")
        return {node["Relation Name"] for node in scans if _rows(node) > FEW_ROWS}

    @property
    def indexes(self) -> set[str]:
        """The indexes that were looked into."""
        return {node["Index Name"] for node in _nodes(self.root) if "Index Name" in node}

    def __str__(self) -> str:
        lines = [f"{self.buffers} buffers, {self.milliseconds:.1f} ms: {' '.join(self.statement.split())[:300]}"]
        return "\n".join([*lines, *_outline(self.root, 1)])


def explain(
    database: Database, verb: Callable[[Session], object], *, before: Sequence[str] = (), generic: bool = False
) -> list[Plan]:
    """Run a verb, take everything back, and return how each of its statements was run.

    Args:
        database: where.
        verb: what is asked.
        before: statements that make what it shall find.
        generic: with the plan that Postgres makes for any values, as it may for what a connection runs often.
    """
    with database.transaction() as session:
        for statement in before:
            session.connection().exec_driver_sql(statement)
        with _explaining(session, generic=generic) as plans:
            verb(session)
        session.rollback()
    return plans


@contextlib.contextmanager
def _explaining(session: Session, *, generic: bool) -> Iterator[list[Plan]]:
    plans: list[Plan] = []
    connection = session.connection()
    run = _run_generic if generic else _run_custom

    def before(_: Connection, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        raw: psycopg.Connection[Any] = cursor.connection
        raw.execute("SAVEPOINT explained")
        (((found,),),) = run(raw, statement, parameters)
        raw.execute("ROLLBACK TO explained")
        took = found["Planning Time"] + found["Execution Time"]
        plans.append(Plan(statement, found["Plan"], took))

    event.listen(connection, "before_cursor_execute", before)
    try:
        yield plans
    finally:
        event.remove(connection, "before_cursor_execute", before)


def _run_custom(raw: psycopg.Connection[Any], statement: str, parameters: Any) -> list[Any]:
    return raw.execute(_EXPLAIN + statement, parameters).fetchall()


def _run_generic(raw: psycopg.Connection[Any], statement: str, parameters: Mapping[str, Any]) -> list[Any]:
    """Explain a prepared statement; psycopg tells how it would send the parameters."""
    query = psycopg._queries.PostgresQuery(psycopg.adapt.Transformer(raw))
    query.convert(statement, parameters)
    types = [sql.SQL(_type(oid)) for oid in query.types]
    names = query._order or []
    values = [sql.Literal(parameters[name]) for name in names]
    raw.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    declared = sql.SQL("({})").format(sql.SQL(", ").join(types)) if types else sql.SQL("")
    raw.execute(sql.SQL("PREPARE explained {} AS {}").format(declared, sql.SQL(query.query.decode())))
    given = sql.SQL("({})").format(sql.SQL(", ").join(values)) if values else sql.SQL("")
    found = raw.execute(sql.SQL(_EXPLAIN + "EXECUTE explained {}").format(given)).fetchall()
    raw.execute("DEALLOCATE explained")
    return found


def _type(oid: int) -> str:
    known = psycopg.postgres.types.get(oid)
    if known is None:
        return "unknown"
    return f"{known.regtype}[]" if oid == known.array_oid else known.regtype


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _buffers(node: Mapping[str, Any]) -> int:
    return int(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0))


def _rows(node: Mapping[str, Any]) -> float:
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    return float((node.get("Actual Rows", 0) + removed) * node.get("Actual Loops", 1))


def _outline(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    where = node.get("Index Name") or node.get("Relation Name") or node.get("CTE Name") or ""
    condition = node.get("Index Cond") or node.get("Filter") or ""
    facts = f"{_rows(node):.0f} rows, {_buffers(node)} buffers, {node.get('Actual Loops', 0)} loops"
    yield f"{'  ' * depth}{node['Node Type']} {where} [{facts}] {json.dumps(condition)[:120]}"
    for child in node.get("Plans", ()):
        yield from _outline(child, depth + 1)
