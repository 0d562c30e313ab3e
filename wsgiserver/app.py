"""From "module:callable" to a WSGI application, with errors that say what to type instead."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsgiserver.options import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    from wsgiserver.context import WSGIApplication

# What a module is searched for if only the module is named, in this order.
_USUAL_NAMES: Final = ("app", "application")
_USUAL_FACTORIES: Final = ("create_app", "make_app", "create_application", "make_application")


class AppError(Exception):
    """An application cannot be loaded.

    The text is one line for the user. `trace` is the traceback, less the frames of this program,
    if it was the application's own code that failed, else "".
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.trace = "" if cause is None else _own_traceback(cause)


def load(spec: str) -> WSGIApplication:
    """Import the application that `spec` names.

    :param spec: `module:callable`, `module:object.attribute`, `module:factory()` with literal
        arguments if any, or `module`, which must hold `app` or `application`.
    :raises AppError: there is no such thing, importing or calling it failed, or what was found is
        no WSGI application.
    """
    name, colon, expression = spec.partition(":")
    _refuse_paths(name, expression)
    if colon and not expression:
        raise AppError(f"{spec!r} names nothing after the colon; write {name}:app")
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppError(f"{name!r} is not the name of a module; write for example myapp:app")
    steps, call = _parse(spec, expression) if expression else ([], None)
    module = _import(name)
    if not steps:
        return _checked(_usual(module), spec)
    found = _attribute(module, steps)
    if call is not None:
        return _checked(_made_by(found, call, spec), spec, made=True)
    return _checked(found, spec)


# --- the text -------------------------------------------------------------------------------------


def _refuse_paths(name: str, expression: str) -> None:
    """Somebody gave a file or a folder: name the module, or the option, that is meant."""
    if os.path.isdir(name) and ("/" in name or os.sep in name or name in (".", "..")):
        raise AppError(f"{name!r} is a folder; to serve its files: --documents-root {name}")
    if name.endswith(".py") or "/" in name or os.sep in name:
        module = os.path.normpath(name.removesuffix(".py")).replace(os.sep, ".").strip(".")
        raise AppError(
            f"{name!r} is a file, not a module; did you mean {module}:{expression or 'app'}?"
        )


def _parse(spec: str, expression: str) -> tuple[list[str], ast.Call | None]:
    """The attribute names, and the call if the expression is one."""
    try:
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError):
        raise AppError(
            f"{spec!r} is not understood; write module:callable or module:factory()"
        ) from None
    call = node if isinstance(node, ast.Call) else None
    steps: list[str] = []
    target: ast.expr = call.func if call is not None else node
    while isinstance(target, ast.Attribute):
        steps.insert(0, target.attr)
        target = target.value
    if not isinstance(target, ast.Name):
        raise AppError(f"{spec!r} is not understood; write module:callable or module:factory()")
    return [target.id, *steps], call


def _arguments(call: ast.Call, spec: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        positional = [ast.literal_eval(node) for node in call.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (ValueError, TypeError, SyntaxError):
        raise AppError(
            f"{spec!r}: a factory takes literal arguments only, as in create_app('x', debug=True)"
        ) from None
    return positional, named


# --- the module -----------------------------------------------------------------------------------


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if _application_frames(error) or not _is_part(error.name, name):
            raise AppError(f"{name!r} cannot be imported: {_line(error)}", error) from error
        raise AppError(_not_found(name, error)) from None
    except (Exception, SystemExit) as error:
        raise AppError(f"{name!r} cannot be imported: {_line(error)}", error) from error


def _is_part(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(missing + "."))


def _not_found(name: str, error: ModuleNotFoundError) -> str:
    parent, _, last = name.rpartition(".")
    if parent and "is not a package" in str(error):
        wrong = f"there is no module {name!r}: {parent!r} is not a package"
        return f"{wrong}; did you mean {parent}:{last}?"
    folder = os.getcwd()
    near = did_you_mean(name, _modules_beside(parent))
    advice = near or "; start in its folder, or name that with --chdir or --pythonpath"
    return f"there is no module {error.name!r} in {folder} or on the module path{advice}"


def _modules_beside(parent: str) -> list[str]:
    """The modules in the package `parent`, or in the current folder."""
    import pkgutil

    package = sys.modules.get(parent)
    if package is not None:
        return [module.name for module in pkgutil.iter_modules(package.__path__, parent + ".")]
    return [module.name for module in pkgutil.iter_modules([os.getcwd()])]


def _usual(module: ModuleType) -> Any:
    """`app` or `application` of a module."""
    for name in _USUAL_NAMES:
        if hasattr(module, name):
            return getattr(module, name)
    name = module.__name__
    wanted = f"module {name!r} has neither 'app' nor 'application'"
    factories = _factories(module)
    if len(factories) == 1:
        raise AppError(f"{wanted}; did you mean {name}:{factories[0]}()?")
    if factories:
        choice = " or ".join(f"{name}:{factory}()" for factory in factories)
        raise AppError(f"{wanted}; did you mean {choice}?")
    if hasattr(module, "__path__") and importlib.util.find_spec(f"{name}.wsgi") is not None:
        raise AppError(f"{wanted}; did you mean {name}.wsgi?")
    raise AppError(f"{wanted}; name what is the application: {name}:NAME")


def _factories(module: ModuleType) -> list[str]:
    """Functions of the module that look as if they made the application."""
    usual = [name for name in _USUAL_FACTORIES if inspect.isfunction(getattr(module, name, None))]
    return usual or [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and "app" in name.lower()
        and _takes(value, 0)
    ]


# --- the object -----------------------------------------------------------------------------------


def _attribute(module: ModuleType, steps: list[str]) -> Any:
    found: Any = module
    path = module.__name__
    for separator, step in zip(":" + "." * len(steps), steps, strict=False):
        try:
            found = getattr(found, step)
        except AttributeError as error:
            if _application_frames(error):  # a property, or the module's __getattr__
                raise AppError(f"{path}{separator}{step}: {_line(error)}", error) from error
            raise AppError(_no_attribute(found, path, separator, step)) from None
        except Exception as error:
            raise AppError(f"{path}{separator}{step}: {_line(error)}", error) from error
        path += separator + step
    return found


def _no_attribute(found: Any, path: str, separator: str, step: str) -> str:
    names = [name for name in dir(found) if not name.startswith("_")]
    near = did_you_mean(step, names, lambda name: path + separator + name)
    what = f"module {path!r}" if inspect.ismodule(found) else repr(path)
    if near:
        return f"{what} has no {step!r}{near}"
    # Only what a module holds can be looked at without running code of the application's.
    held = vars(found) if inspect.ismodule(found) else {}
    candidates = [name for name in names if _may_be_application(held.get(name))]
    there = f"; it has {', '.join(candidates[:5])}" if candidates else ""
    return f"{what} has no {step!r}{there}"


def _may_be_application(value: Any) -> bool:
    return callable(value) and not inspect.isclass(value) and _takes(value, 2)


def _made_by(factory: Any, call: ast.Call, spec: str) -> Any:
    positional, named = _arguments(call, spec)
    name = spec.partition("(")[0]
    if not callable(factory):
        raise AppError(f"{name!r} cannot be called: it is {_kind_of(factory)}; leave out the ()")
    try:
        inspect.signature(factory).bind(*positional, **named)
    except TypeError as error:
        raise AppError(f"{spec!r} does not fit the factory: {error}") from None
    except ValueError:
        pass  # written in C; calling it will tell
    try:
        return factory(*positional, **named)
    except (Exception, SystemExit) as error:
        raise AppError(f"{spec!r} failed: {_line(error)}", error) from error


def _checked(found: Any, spec: str, *, made: bool = False) -> WSGIApplication:
    """Refuse what cannot be a WSGI application: callable(environ, start_response) → iterable."""
    what = f"{spec!r} returned" if made else f"{spec!r} is"
    if inspect.iscoroutine(found):
        found.close()
        raise AppError(f"{what} a coroutine; the factory must not be async")
    if not callable(found):
        advice = "return the application" if made else "name a WSGI application"
        raise AppError(f"{what} {_kind_of(found)}, which cannot be called; {advice}")
    if _is_asgi(found):
        raise AppError(
            f"{what} an ASGI application; wsgiserver serves WSGI: use an ASGI server, "
            "or wrap it, for example with a2wsgi"
        )
    if inspect.isclass(found) and not hasattr(found, "__iter__"):
        raise AppError(f"{what} a class; did you mean an instance of it, {spec}()?")
    if not made and inspect.isroutine(found) and _needs_nothing(found):
        raise AppError(f"{what} a function that needs no arguments; did you mean {spec}()?")
    if not _takes(found, 2):
        raise AppError(f"{what} {_kind_of(found)}, which does not take (environ, start_response)")
    app: WSGIApplication = found
    return app


def _is_asgi(found: Any) -> bool:
    """Coroutine functions, objects whose call is one, and what takes (scope, receive, send)."""
    called: Callable[..., Any] = found
    if not inspect.isroutine(found) and not inspect.isclass(found):
        called = type(found).__call__
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        return True
    return not inspect.isclass(found) and _takes(found, 3) and not _takes(found, 2)


def _takes(function: Any, count: int) -> bool:
    """Whether it can be called with so many positional arguments, as far as can be told."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # written in C without a signature
        return count == 2
    return True


def _needs_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can do without arguments, as a factory may and an application cannot.

    One that takes any arguments (`*args`) is a decorator's and tells nothing.
    """
    if not _takes(function, 0):
        return False
    parameters = inspect.signature(function).parameters.values()
    return all(each.kind is not inspect.Parameter.VAR_POSITIONAL for each in parameters)


def _kind_of(value: Any) -> str:
    if value is None:
        return "None"
    if inspect.isfunction(value):
        return "a function"
    if inspect.ismodule(value):
        return "a module"
    name = type(value).__name__
    return f"an object of type {name}"


# --- tracebacks -----------------------------------------------------------------------------------


def _is_own(filename: str) -> bool:
    """Whether a frame is of this module or of the import machinery: no news to the user."""
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def _application_frames(error: BaseException) -> bool:
    return any(not _is_own(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def _own_traceback(error: BaseException) -> str:
    trimmed = traceback.TracebackException.from_exception(error)
    todo = [trimmed]
    while todo:
        each = todo.pop()
        each.stack[:] = [frame for frame in each.stack if not _is_own(frame.filename)]
        todo += [chained for chained in (each.__cause__, each.__context__) if chained is not None]
        todo += each.exceptions or ()
    return "".join(trimmed.format())


def _line(error: BaseException) -> str:
    """The name and the first line of an exception's text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


# --- files beside or instead of it ----------------------------------------------------------------


def with_files(
    app: WSGIApplication | None, root: str, prefix: str, options: Mapping[str, Any] | None = None
) -> WSGIApplication:
    """Serve the files below the folder `root` under `prefix`, and the rest by `app`, if given.

    :param options: the further settings of the static files (`Config.static_options`).
    :raises AppError: the folder cannot be served so.
    """
    try:
        arguments = _arguments_of_files(options or {})
        static_files = middleware_module("middleware").StaticFiles
        files: WSGIApplication = static_files(root, app=app, prefix=prefix, **arguments)
    except (OSError, ValueError) as error:
        raise AppError(f"documents_root {root!r}: {_line(error)}") from error
    return files


# `\.[0-9a-f]{8}\.json` is a regular expression, `./dist/.vite/manifest.json` a path.
_MANIFEST: Final = re.compile(r"[^\\^$*+?()\[\]{}|]+\.json")


def _arguments_of_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, which are text, as arguments of `middleware.StaticFiles`."""
    arguments = dict(options)
    if "cache_control" in arguments:
        pairs = (pair.partition("=") for pair in arguments["cache_control"])
        arguments["cache_control"] = {glob.strip(): value.strip() for glob, _, value in pairs}
    immutable = arguments.get("immutable", "")
    if immutable == "none":
        arguments["immutable"] = None
    elif _MANIFEST.fullmatch(immutable) or os.path.isfile(immutable):
        arguments["immutable"] = Path(immutable)
    if "index" in arguments:
        arguments["index"] = arguments["index"] or None
    if "compression" in arguments:
        arguments["compress"] = arguments.pop("compression")
    return arguments


def middleware_module(name: str) -> Any:
    """A module of our `middleware`, though the application may have a module of that name too.

    That one must stay what `import middleware` gives to the application, so ours is imported
    while nothing else of that name is known, and then forgotten.
    """
    from importlib.machinery import PathFinder

    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    first = PathFinder.find_spec("middleware")
    ours = PathFinder.find_spec("middleware", [home])
    loaded = sys.modules.get("middleware")
    theirs = getattr(loaded, "__spec__", None) or first
    if ours is None or theirs is None or theirs.origin == ours.origin:
        return importlib.import_module(name)
    kept = _forget_middleware()
    path = sys.path[:]
    sys.path.insert(0, home)
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = path
        _forget_middleware()
        sys.modules.update(kept)


def _forget_middleware() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "middleware"]
    return {name: sys.modules.pop(name) for name in names}
