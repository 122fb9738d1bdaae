"""Single changes of a module's source, each of which some test should see."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
# Types, and the words of errors and messages, change nothing that a test should look at.
_NEVER_RUN = {"annotation", "returns", "decorator_list"}
_WORDS = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


class Mutant(NamedTuple):
    """A module with one change.

    Attributes:
        line: of the change in the original.
        was, becomes: the code that is changed.
        source: of the whole module.
    """

    line: int
    was: str
    becomes: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """All of them, in the order of their lines; comments are lost."""
    tree = ast.parse(source)
    return sorted(_mutants(tree, tree), key=lambda mutant: mutant.line)


def _mutants(tree: ast.Module, parent: ast.AST) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(parent):
        if field in _NEVER_RUN:
            continue
        places = value if isinstance(value, list) else [value]
        for index, node in enumerate(places):
            if not isinstance(node, ast.AST) or isinstance(node, _WORDS):
                continue
            for other in _others(node, field, parent):
                places[index] = other
                setattr(parent, field, places if isinstance(value, list) else other)
                changed = ast.unparse(tree)
                places[index] = node
                setattr(parent, field, value)
                line = getattr(node, "lineno", 0)
                yield Mutant(line, ast.unparse(node), ast.unparse(other), changed)
            yield from _mutants(tree, node)


def _others(node: ast.AST, field: str, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of `node`, its own parts left as they are."""
    match node:
        case ast.Compare(left, [operator, *more], right) if type(operator) in _COMPARED:
            yield ast.Compare(left, [_COMPARED[type(operator)](), *more], right)
        case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED:
            yield ast.BinOp(left, _COMPUTED[type(operator)](), right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(float(value)):
            yield ast.Constant(1.5 * value or 1.0)
        case ast.AugAssign() | ast.Expr(ast.Call()):
            yield ast.Pass()
        case ast.Call(function, [first, second, *more], keywords) if _ordered(function):
            yield ast.Call(function, [second, first, *more], keywords)
    if field == "test" and isinstance(parent, ast.If | ast.IfExp):
        yield ast.Constant(True)
        yield ast.Constant(False)


def _ordered(function: ast.expr) -> bool:
    """Whether the order of its first two arguments means something."""
    name = ast.unparse(function).rpartition(".")[2]
    return name not in ("min", "max", "minimum", "maximum", "union1d")
