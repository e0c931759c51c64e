"""Measure the structure of the package: lines per room, style, contracts, import cycles.

    python scripts/structure.py                     print the measures of src/tightbound
    python scripts/structure.py FOLDER              of another source folder
    python scripts/structure.py --compare COMMIT    beside those of an older commit
    python scripts/structure.py --list MEASURE      every place that a measure counts
    python scripts/structure.py --check             exit with 1 if a gate is broken

Line of code: a line that holds more than blanks, a comment or a docstring.

Repeated line: a line of code inside a window of six successive lines of code that occurs twice
or more in the package, compared without comments and outer blanks.

Access by name on a component: a call of `getattr` or `hasattr` whose attribute name is a string
literal, a call of `vars`, or a use of `__dict__`. Not counted: names with two leading underscores
(protocols of Python such as `__len__`), the files of `data/` (there the object is the user's),
`vars` of what torch defines, and the attributes in `FOREIGN`, which are those of torch, numpy and
pandas objects.

Length of a function: the lines of code of its body, so neither its signature nor its docstring.
The signature of a public verb or of a command is the list of its options.

Public: the names in `__all__` of the package, the public methods of its classes (inherited ones
too), and the classes in `core/component.py` with theirs.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tightbound"
WINDOW = 6
MOST_COMPLEX = 12
MOST_LINES = 50
VAGUE = {"found", "own", "some", "held", "made", "known", "told", "seen", "rest"}
FOREIGN = {
    *("full_tensor", "unshard", "support", "is_discrete", "hyper", "phi"),
    *("item", "iloc", "dtypes", "columns", "shape", "ndim", "stream", "batch_size"),
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SECTION = re.compile(
    r"^\s*(Args|Returns|Yields|Raises|Attributes|Examples?|Notes?|References?):\s*$",
    re.M,
)
LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
CodeLine = tuple[int, str]


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file, with a few words on what stands there."""

    file: str
    row: int
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.row} {self.text}".rstrip()


def docstring_starts(tree: ast.Module) -> set[tuple[int, int]]:
    """Return where each docstring starts, as (row, column)."""
    owners = (ast.Module, ast.ClassDef, *FUNCTIONS)
    nodes = [node for node in ast.walk(tree) if isinstance(node, owners)]
    with_docs = [n for n in nodes if ast.get_docstring(n, clean=False) is not None]
    return {(n.body[0].lineno, n.body[0].col_offset) for n in with_docs}


def code_lines(source: str) -> list[CodeLine]:
    """Return the lines of code as (number, text without comment and outer blanks)."""
    skipped, text = docstring_starts(ast.parse(source)), source.split("\n")
    rows: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            text[row - 1] = text[row - 1][:column]
        elif token.type not in LAYOUT and token.start not in skipped:
            rows.update(range(row, token.end[0] + 1))
    return [
        (row, text[row - 1].strip()) for row in sorted(rows) if text[row - 1].strip()
    ]


def repeats(code: Mapping[str, list[CodeLine]]) -> dict[Place, Place]:
    """Return each line of a repeated window with the first line of another such window."""
    windows: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in code.items():
        for start in range(len(lines) - WINDOW + 1):
            window = tuple(text for _, text in lines[start : start + WINDOW])
            windows[window].append((name, start))
    repeated: dict[Place, Place] = {}
    for starts in windows.values():
        if len(starts) == 1:
            continue
        for i, (name, start) in enumerate(starts):
            other, other_start = starts[i - 1]
            for row, _ in code[name][start : start + WINDOW]:
                repeated.setdefault(
                    Place(name, row), Place(other, code[other][other_start][0])
                )
    return repeated


def nested(tree: ast.AST, kinds: tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
    """Return each node of the kinds that stands inside another of them."""
    for outer in ast.iter_child_nodes(tree):
        if isinstance(outer, kinds):
            inside = (
                node
                for child in ast.iter_child_nodes(outer)
                for node in ast.walk(child)
            )
            yield from (node for node in inside if isinstance(node, kinds))
        else:
            yield from nested(outer, kinds)


def complexity(body: list[ast.stmt]) -> int:
    """Return the branches in a body, as ruff's C901 counts them; a function has one more."""
    return sum(map(_branches, body))


def _branches(node: ast.stmt) -> int:
    bodies = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
    inside = sum(map(complexity, bodies))
    if isinstance(node, ast.If | ast.For | ast.AsyncFor | ast.While | Function):
        return 1 + inside
    if isinstance(node, ast.Try | ast.TryStar):
        handlers = sum(1 + complexity(handler.body) for handler in node.handlers)
        return inside + handlers + int(bool(node.orelse))
    if isinstance(node, ast.Match):
        cases = sum(1 + complexity(case.body) for case in node.cases)
        return cases - int(_catches_all(node.cases[-1]))
    return inside


def _catches_all(case: ast.match_case) -> bool:
    return (
        case.guard is None
        and isinstance(case.pattern, ast.MatchAs)
        and not case.pattern.pattern
    )


def expression_complexity(function: Function) -> int:
    """Return the McCabe complexity with the branches inside expressions.

    One for each statement that branches, as radon counts it, and one for each conditional
    expression, `and`, `or`, `for` and `if` of a comprehension.
    """
    branching = (
        *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case),
        ast.IfExp,
    )
    total = 1
    for node in ast.walk(function):
        if isinstance(node, branching):
            total += 1
        elif isinstance(node, ast.comprehension):
            total += 1 + len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
    return total


def local_bindings(function: Function) -> Iterator[ast.Name]:
    """Return the names that the assignments of a function bind, each as often as it is bound."""
    for statement in function.body:
        for node in _nodes_of_scope(statement):
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                names = (n for n in ast.walk(target) if isinstance(n, ast.Name))
                yield from (name for name in names if isinstance(name.ctx, ast.Store))


def _nodes_of_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Return a node and those below it, except in functions and classes defined there."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _nodes_of_scope(child)


def accesses(file: str, tree: ast.AST) -> Iterator[ast.AST]:
    """Return each access by name on a component, see the head of this file."""
    if file.startswith("data/"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            yield node
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "vars" and not ast.unparse(node.args[0]).startswith(
            "torch."
        ):
            yield node
        if node.func.id not in ("getattr", "hasattr") or not isinstance(
            node.args[1], ast.Constant
        ):
            continue
        name = str(node.args[1].value)
        if not name.startswith("__") and name not in FOREIGN:
            yield node


def imports(
    module: str, tree: ast.Module, is_package: bool, typing: bool
) -> Iterator[str]:
    """Return the full names that a module imports, also those inside functions.

    Args:
        module: its name with the package, as `tightbound.data.load`.
        is_package: whether it is an `__init__.py`.
        typing: whether to count imports below `if TYPE_CHECKING:`.
    """
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in _import_statements(tree, typing):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        base = parents[: len(parents) + 1 - node.level] if node.level else []
        start = ".".join([*base, *([node.module] if node.module else [])])
        yield from (f"{start}.{alias.name}" for alias in node.names)


def _import_statements(
    tree: ast.AST, typing: bool
) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith(
            "TYPE_CHECKING"
        ):
            branch = [*child.body, *child.orelse] if typing else child.orelse
            yield from _import_statements(ast.Module(branch, []), typing)
        elif not isinstance(child, ast.expr):  # an expression holds no statement
            yield from _import_statements(child, typing)


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of two or more modules that all reach each other by imports."""
    reach = {module: _reachable(graph, module) for module in graph}
    groups = {
        tuple(
            sorted(other for other in reach[module] if module in reach.get(other, ()))
        )
        for module in graph
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), set()) - reached:
            reached.add(target)
            waiting.append(target)
    return reached


@dataclass(frozen=True)
class Docs:
    """A public object: its full name, where it stands and its docstring."""

    name: str
    place: Place
    text: str
    main: bool  # a class or a function, not a method
    is_property: bool = False  # documented as an attribute is, by what it is

    @property
    def has_section(self) -> bool:
        return self.is_property or bool(SECTION.search(self.text))

    @property
    def has_example(self) -> bool:
        return ">>>" in self.text


class Structure:
    """The sources below a folder, parsed, and what is counted in them."""

    def __init__(self, folder: Path) -> None:
        paths = [
            p for p in sorted(folder.rglob("*.py")) if "__pycache__" not in p.parts
        ]
        self.folder = folder
        self.sources = {
            p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8")
            for p in paths
        }
        self.trees = {name: ast.parse(source) for name, source in self.sources.items()}
        self.code = {name: code_lines(source) for name, source in self.sources.items()}
        self.values: dict[str, float] = {}  # of the measures that were asked for
        self._graphs: dict[bool, dict[str, set[str]]] = {}

    # Places

    def _everywhere(
        self, select: Callable[[str, ast.Module], Iterator[ast.AST]]
    ) -> list[Place]:
        places = [
            Place(
                file, getattr(node, "lineno", 0), ast.unparse(node).split("\n")[0][:80]
            )
            for file, tree in self.trees.items()
            for node in select(file, tree)
        ]
        return sorted(places)

    @cached_property
    def top_level(self) -> list[Place]:
        """Entries of the folder: modules, packages and other files."""
        entries = sorted(
            p.name for p in self.folder.iterdir() if p.name != "__pycache__"
        )
        return [Place(name, 0) for name in entries]

    @cached_property
    def component_access(self) -> list[Place]:
        return self._everywhere(accesses)

    def wide_code(self, width: int) -> list[Place]:
        """Lines of code above a width, with a comment at their end."""
        code = {(file, row) for file, lines in self.code.items() for row, _ in lines}
        return [
            place for place in self.wide_lines(width) if (place.file, place.row) in code
        ]

    def wide_lines(self, width: int) -> list[Place]:
        """Lines of any kind above a width."""
        return [
            Place(file, row)
            for file, source in self.sources.items()
            for row, line in enumerate(source.splitlines(), 1)
            if len(line) > width
        ]

    @cached_property
    def tuple_assignments(self) -> list[Place]:
        """Assignments of a tuple of values to a tuple of targets."""

        def select(_: str, tree: ast.Module) -> Iterator[ast.AST]:
            for node in ast.walk(tree):
                if not (
                    isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
                ):
                    continue
                pairs = [
                    t
                    for t in node.targets
                    if isinstance(t, ast.Tuple) and len(t.elts) > 1
                ]
                if pairs and len(node.value.elts) > 1:
                    yield node

        return self._everywhere(select)

    def _of_kind(self, *kinds: type[ast.AST]) -> list[Place]:
        return self._everywhere(
            lambda _, tree: (n for n in ast.walk(tree) if isinstance(n, kinds))
        )

    @cached_property
    def conditionals(self) -> list[Place]:
        return self._of_kind(ast.IfExp)

    @cached_property
    def nested_comprehensions(self) -> list[Place]:
        return self._everywhere(lambda _, tree: nested(tree, COMPREHENSIONS))

    @cached_property
    def nested_conditionals(self) -> list[Place]:
        return self._everywhere(lambda _, tree: nested(tree, (ast.IfExp,)))

    @cached_property
    def _functions(self) -> list[tuple[str, Function]]:
        return [
            (file, node)
            for file, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, FUNCTIONS)
        ]

    def complex_functions(self, bound: int) -> list[Place]:
        """Functions of McCabe complexity above a bound, as ruff's C901 counts it."""
        return self._above(bound, lambda function: 1 + complexity(function.body))

    def branching_functions(self, bound: int) -> list[Place]:
        """Functions of McCabe complexity above a bound, branches of expressions counted."""
        return self._above(bound, expression_complexity)

    def long_functions(self, bound: int) -> list[Place]:
        """Functions whose body has more lines of code than a bound."""
        rows = {file: [row for row, _ in lines] for file, lines in self.code.items()}
        places = []
        for file, function in self._functions:
            start = function.body[0].lineno
            end = function.end_lineno or start
            length = bisect_right(rows[file], end) - bisect_left(rows[file], start)
            if length > bound:
                words = f"{function.name} {length}"
                places.append(Place(file, function.lineno, words))
        return places

    def _above(self, bound: int, count: Callable[[Function], int]) -> list[Place]:
        counts = [(file, f, count(f)) for file, f in self._functions]
        return [
            Place(file, f.lineno, f"{f.name} {n}") for file, f, n in counts if n > bound
        ]

    @cached_property
    def local_names(self) -> list[Place]:
        names = [
            (file, name) for file, f in self._functions for name in local_bindings(f)
        ]
        return sorted(Place(file, name.lineno, name.id) for file, name in names)

    @property
    def vague_names(self) -> list[Place]:
        return [place for place in self.local_names if place.text in VAGUE]

    @cached_property
    def type_ignores(self) -> list[Place]:
        return [
            Place(file, row, line.strip()[-80:])
            for file, source in self.sources.items()
            for row, line in enumerate(source.splitlines(), 1)
            if re.search(r"#\s*type:\s*ignore", line)
        ]

    @cached_property
    def casts(self) -> list[Place]:
        def select(_: str, tree: ast.Module) -> Iterator[ast.AST]:
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "cast",
                    "typing.cast",
                ):
                    yield node

        return self._everywhere(select)

    @cached_property
    def any_names(self) -> list[Place]:
        """Uses of the name `Any`, imports of it counted."""
        return [
            Place(file, token.start[0], token.line.strip()[:80])
            for file, source in self.sources.items()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.NAME and token.string == "Any"
        ]

    @cached_property
    def repeated(self) -> dict[Place, Place]:
        return repeats(self.code)

    # Imports

    def module(self, file: str) -> str:
        """The dotted name of a file, the package first."""
        parts = [self.folder.name, *Path(file).with_suffix("").parts]
        return ".".join(parts).removesuffix(".__init__")

    def import_graph(self, typing: bool) -> dict[str, set[str]]:
        """The modules that each imports; the package's own `__init__.py` is left out.

        It imports lazily, and any module may take the version from it.
        """
        if typing not in self._graphs:
            self._graphs[typing] = self._read_imports(typing)
        return self._graphs[typing]

    def _read_imports(self, typing: bool) -> dict[str, set[str]]:
        files = {
            self.module(file): file for file in self.trees if file != "__init__.py"
        }
        graph: dict[str, set[str]] = {module: set() for module in files}
        for module, file in files.items():
            is_package = file.endswith("__init__.py")
            for name in imports(module, self.trees[file], is_package, typing):
                target = name if name in files else name.rpartition(".")[0]
                if target in files and target != module:
                    graph[module].add(target)
        return graph

    def import_cycles(self, typing: bool) -> list[Place]:
        """Cycles of imports, with or without those below `if TYPE_CHECKING:`."""
        return [
            Place(group[0], 0, " ".join(group))
            for group in cycles(self.import_graph(typing))
        ]

    # Public docstrings

    @cached_property
    def public(self) -> list[Docs]:
        """The public objects with their docstrings."""
        objects: dict[str, Docs] = {}
        surface = self.trees.get("__init__.py", ast.Module([], []))
        for name in _all_names(surface):
            for docs in self._documented(self.folder.name, name):
                objects.setdefault(docs.name, docs)
        component = "core/component.py"
        module = self.module(component)
        for node in self.trees.get(component, ast.Module([], [])).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for docs in self._documented(module, node.name):
                    objects.setdefault(docs.name, docs)
        return list(objects.values())

    def _file(self, module: str) -> str | None:
        below = module.removeprefix(self.folder.name).strip(".").replace(".", "/")
        names = [f"{below}.py", f"{below}/__init__.py"] if below else ["__init__.py"]
        return next((name for name in names if name in self.trees), None)

    def _definition(
        self, module: str, name: str, visited: frozenset[tuple[str, str]] = frozenset()
    ) -> tuple[str, ast.ClassDef | Function] | None:
        """Find a class or function by its name in a module, through imports."""
        file = self._file(module)
        if file is None or (module, name) in visited:
            return None
        tree = self.trees[file]
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and node.name == name:
                return file, node
        for statement in _import_statements(tree, typing=True):
            if not isinstance(statement, ast.ImportFrom):
                continue
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    one = ast.Module(
                        [ast.ImportFrom(statement.module, [alias], statement.level)], []
                    )
                    full = next(
                        imports(module, one, file.endswith("__init__.py"), True)
                    )
                    origin, _, original = full.rpartition(".")
                    return self._definition(
                        origin, original, visited | {(module, name)}
                    )
        return None

    def _documented(self, module: str, name: str) -> Iterator[Docs]:
        definition = self._definition(module, name)
        if definition is None:
            return
        file, node = definition
        text = ast.get_docstring(node) or ""
        yield Docs(node.name, Place(file, node.lineno, node.name), text, True)
        if isinstance(node, ast.ClassDef):
            yield from self._methods(node.name, file, node, set())

    def _methods(
        self, owner: str, file: str, cls: ast.ClassDef, passed: set[str]
    ) -> Iterator[Docs]:
        for method in cls.body:
            if not isinstance(method, FUNCTIONS) or method.name.startswith("_"):
                continue
            if method.name not in passed:
                passed.add(method.name)
                name = f"{owner}.{method.name}"
                text = ast.get_docstring(method) or ""
                place = Place(file, method.lineno, name)
                yield Docs(name, place, text, False, _is_property(method))
        for base in cls.bases:
            plain = base.value if isinstance(base, ast.Subscript) else base
            definition = self._definition(self.module(file), ast.unparse(plain))
            if definition is not None and isinstance(definition[1], ast.ClassDef):
                yield from self._methods(owner, definition[0], definition[1], passed)

    # Totals

    @property
    def total_code(self) -> int:
        return sum(map(len, self.code.values()))

    @property
    def lines(self) -> int:
        return sum(len(source.splitlines()) for source in self.sources.values())


def _all_names(tree: ast.Module) -> list[str]:
    """Return the names in `__all__` of a module, without the version."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            constants = [n for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
            return [
                str(n.value) for n in constants if not str(n.value).startswith("__")
            ]
    return []


@dataclass(frozen=True)
class Measure:
    """A number with what it is to become."""

    key: str
    words: str
    goal: str
    count: Callable[[Structure], float]
    unit: str = ""
    places: Callable[[Structure], list[Place]] = lambda _: []

    def value(self, structure: Structure) -> float:
        """The number, counted once for each structure."""
        if self.key not in structure.values:
            structure.values[self.key] = self.count(structure)
        return structure.values[self.key]

    def text(self, structure: Structure) -> str:
        value = self.value(structure)
        shown = f"{value:g}" if not self.unit else f"{value:.1f}"
        return f"{shown} %" if self.unit == "%" else shown


def _counted(
    key: str, words: str, goal: str, places: Callable[[Structure], list[Place]]
) -> Measure:
    return Measure(key, words, goal, lambda s: len(places(s)), places=places)


def _per_thousand(
    key: str, words: str, goal: str, places: Callable[[Structure], list[Place]]
) -> Measure:
    def value(structure: Structure) -> float:
        return 1000 * len(places(structure)) / max(1, structure.total_code)

    return Measure(
        key, f"{words} per 1,000 lines of code", goal, value, "per 1,000", places
    )


def _percent(
    key: str,
    words: str,
    goal: str,
    places: Callable[[Structure], list[Place]],
    whole: Callable[[Structure], int] = lambda s: s.total_code,
) -> Measure:
    def value(structure: Structure) -> float:
        return 100 * len(places(structure)) / max(1, whole(structure))

    return Measure(key, words, goal, value, "%", places)


def _is_property(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(mark) for mark in method.decorator_list)


def _without_section(s: Structure) -> list[Place]:
    return [d.place for d in s.public if not d.has_section]


def _members_of_run(s: Structure) -> list[Place]:
    return [d.place for d in s.public if d.name.startswith("Run.")]


def _without_example(s: Structure) -> list[Place]:
    return [d.place for d in s.public if d.main and not d.has_example]


MEASURES = {
    m.key: m
    for m in [
        _counted(
            "top-level", "entries at the top level", "<= 20", lambda s: s.top_level
        ),
        _counted(
            "access",
            "getattr, hasattr, vars, __dict__ on components",
            "< 10",
            lambda s: s.component_access,
        ),
        _percent("code-88", "code over 88 columns", "< 3 %", lambda s: s.wide_code(88)),
        _percent("code-100", "code over 100 columns", "0", lambda s: s.wide_code(100)),
        _counted("width", "lines over 100 columns", "0", lambda s: s.wide_lines(100)),
        _per_thousand(
            "tuples", "tuple assignments", "< 8", lambda s: s.tuple_assignments
        ),
        _per_thousand(
            "conditionals", "conditional expressions", "< 20", lambda s: s.conditionals
        ),
        _counted(
            "nested-comprehensions",
            "nested comprehensions",
            "0",
            lambda s: s.nested_comprehensions,
        ),
        _counted(
            "nested-conditionals",
            "nested conditional expressions",
            "0",
            lambda s: s.nested_conditionals,
        ),
        _counted(
            "complexity",
            f"functions of complexity above {MOST_COMPLEX} (C901)",
            "0",
            lambda s: s.complex_functions(MOST_COMPLEX),
        ),
        _counted(
            "branches",
            f"above {MOST_COMPLEX} with branches of expressions",
            "0",
            lambda s: s.branching_functions(MOST_COMPLEX),
        ),
        _counted(
            "branches-20",
            "above 20 with branches of expressions",
            "0",
            lambda s: s.branching_functions(20),
        ),
        _counted(
            "long",
            f"functions of more than {MOST_LINES} lines of code",
            "0",
            lambda s: s.long_functions(MOST_LINES),
        ),
        _percent(
            "vague-names",
            "local bindings with vague names",
            "< 1 %",
            lambda s: s.vague_names,
            lambda s: len(s.local_names),
        ),
        Measure("public", "public objects", "", lambda s: len(s.public)),
        _counted("run-members", "public methods of Run", "<= 21", _members_of_run),
        _counted("no-section", "of them without sections", "0", _without_section),
        Measure(
            "public-main",
            "public classes and functions",
            "",
            lambda s: sum(d.main for d in s.public),
        ),
        _counted(
            "no-example", "of them without doctested examples", "0", _without_example
        ),
        _counted("type-ignore", "`type: ignore`", "< 10", lambda s: s.type_ignores),
        _counted("cast", "`cast`", "0", lambda s: s.casts),
        _counted("any", "`Any`, imports counted", "< 250", lambda s: s.any_names),
        _counted(
            "cycles", "import cycles at run time", "0", lambda s: s.import_cycles(False)
        ),
        _counted(
            "typing-cycles",
            "import cycles with TYPE_CHECKING",
            "0",
            lambda s: s.import_cycles(True),
        ),
        _percent(
            "repeated", "repeated lines of code", "< 2 %", lambda s: sorted(s.repeated)
        ),
    ]
}

# The gates: no measure here may be above its bound. A bound above zero is a dated exception: the
# value of that day, which is lowered with each change that allows it and never raised.
BOUNDS: dict[str, float] = {
    "cycles": 0,
    "typing-cycles": 0,
    "width": 0,
    "complexity": 0,
    "long": 0,
    "run-members": 21,
    "access": 0,
    "type-ignore": 2,  # 30 November 2026
    "cast": 0,
}


def broken(structure: Structure, bounds: Mapping[str, float]) -> list[str]:
    """Return one sentence for each gate that is broken."""
    values = {key: MEASURES[key].value(structure) for key in bounds}
    return [
        f"{MEASURES[key].words}: {values[key]:g}, more than {bound:g}"
        for key, bound in bounds.items()
        if values[key] > bound
    ]


def slack(structure: Structure, bounds: Mapping[str, float]) -> list[str]:
    """Return one sentence for each bound that can be lowered."""
    values = {key: MEASURES[key].value(structure) for key in bounds}
    return [
        f"{MEASURES[key].words}: {values[key]:g}, so the bound of {bound:g} can be lowered"
        for key, bound in bounds.items()
        if values[key] < bound
    ]


def room(file: str) -> str:
    """Return the folder or module right below the package that a file belongs to."""
    return file.split("/")[0].removesuffix(".py")


def rooms_table(structure: Structure) -> str:
    """Return files, lines and lines of code per room, as text."""
    files = Counter(map(room, structure.sources))
    lines: Counter[str] = Counter()
    code: Counter[str] = Counter()
    for name, source in structure.sources.items():
        lines[room(name)] += len(source.splitlines())
        code[room(name)] += len(structure.code[name])
    rows = [f"{'room':<20}{'files':>6}{'lines':>8}{'code':>8}"]
    rows += [f"{r:<20}{files[r]:>6}{lines[r]:>8}{code[r]:>8}" for r in sorted(files)]
    rows.append(
        f"{'package':<20}{len(structure.sources):>6}{structure.lines:>8}{structure.total_code:>8}"
    )
    return "\n".join(rows)


def measures_table(columns: Mapping[str, Structure]) -> str:
    """Return the measures as text, a column for each structure."""
    head = f"{'measure':<22}{'':<52}{'goal':>8}"
    rows = [head + "".join(f"{name:>12}" for name in columns)]
    for measure in MEASURES.values():
        values = "".join(f"{measure.text(s):>12}" for s in columns.values())
        rows.append(f"{measure.key:<22}{measure.words:<52}{measure.goal:>8}{values}")
    return "\n".join(rows)


def repeats_list(structure: Structure) -> list[str]:
    """Return one line for each repeated stretch of code."""
    starts = [
        place
        for place in structure.repeated
        if Place(place.file, place.row - 1) not in structure.repeated
    ]
    return [
        f"{place} stands in {structure.repeated[place]} too" for place in sorted(starts)
    ]


def checked_out(commit: str, folder: Path, target: Path) -> Path:
    """Write a folder of the repository as it was at a commit below `target`."""
    inside = folder.relative_to(ROOT).as_posix()
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, inside]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter="data")
    return target / inside


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=PACKAGE, help="of the sources"
    )
    parser.add_argument("--compare", metavar="COMMIT", help="measure this commit too")
    parser.add_argument(
        "--list", metavar="MEASURE", choices=MEASURES, help="print its places"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a gate is broken"
    )
    options = parser.parse_args(arguments)
    structure = Structure(options.folder.resolve())
    if options.list:
        listed = MEASURES[options.list].places(structure)
        print(
            "\n".join(
                repeats_list(structure)
                if options.list == "repeated"
                else map(str, listed)
            )
        )
        return 0
    columns = {"now": structure}
    with tempfile.TemporaryDirectory() as temporary:
        if options.compare:
            folder = checked_out(options.compare, structure.folder, Path(temporary))
            columns = {options.compare[:10]: Structure(folder), **columns}
        print(rooms_table(structure))
        print()
        print(measures_table(columns))
    for sentence in slack(structure, BOUNDS):
        print(f"note: {sentence}")
    sentences = broken(structure, BOUNDS)
    for sentence in sentences:
        print(f"broken: {sentence}", file=sys.stderr)
    return int(options.check and bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
