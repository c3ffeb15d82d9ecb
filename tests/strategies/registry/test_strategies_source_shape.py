"""A rule's digest is of its code alone, whatever Python reads it."""

from __future__ import annotations

import ast

from strategies.registry import source


def test_code_as_text_by_hand():
    """Written out from the grammar: nothing in it that a newer Python adds or writes otherwise."""
    tree = ast.parse("def f(x):\n    return -x or 1.5")
    argument = "arg(arg='x')"
    minus = "UnaryOp(op=USub(), operand=Name(id='x', ctx=Load()))"
    either = f"BoolOp(op=Or(), values=[{minus}, Constant(value=1.5)])"
    body = f"[Return(value={either})]"
    expected = f"Module(body=[FunctionDef(name='f', args=arguments(args=[{argument}]), body={body})])"
    assert source.shape(tree) == expected


def test_an_f_string_with_quotes_is_its_parts():
    """Where ast.unparse of Python 3.11 and 3.12 choose different quotes."""
    found = source.shape(ast.parse('f"{x!r}: it\'s {y}"', mode="eval").body)
    x = "FormattedValue(value=Name(id='x', ctx=Load()), conversion=114)"
    y = "FormattedValue(value=Name(id='y', ctx=Load()), conversion=-1)"
    assert found == f'JoinedStr(values=[{x}, Constant(value=": it\'s "), {y}])'
