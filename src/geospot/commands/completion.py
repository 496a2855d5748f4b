"""`geospot completion SHELL`: a script that completes commands, keys and the values of keys that have a few.

source <(geospot completion bash)                        # or zsh; in ~/.bashrc, ~/.zshrc
geospot completion fish > ~/.config/fish/completions/geospot.fish
"""

import types
import typing
from collections.abc import Iterator, Mapping

import chz

from geospot.cli import ALIASES, COMMON

_ZSH = "autoload -U +X compinit && compinit; autoload -U +X bashcompinit && bashcompinit\n"
_BASH = """\
# geospot completion for bash and zsh: source <(geospot completion SHELL)
_geospot() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" cmd="${{COMP_WORDS[1]}}" first=2 keys="" values="" key word
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    for word in $(compgen -W "{commands}" -- "$cur"); do COMPREPLY+=("$word "); done
    return
  fi
  if [ "$cmd" = data ]; then
    if [ "$COMP_CWORD" -eq 2 ]; then
      for word in $(compgen -W "{data}" -- "$cur"); do COMPREPLY+=("$word "); done
      return
    fi
    cmd="data ${{COMP_WORDS[2]}}"
  fi
  case "$cur" in
    *=*)
      key="${{cur%%=*}}"
      case "$cmd:$key" in
{values}
      esac
      if [ -n "$values" ]; then
        for word in $(compgen -W "$values" -- "${{cur#*=}}"); do COMPREPLY+=("$key=$word "); done
      else
        while IFS= read -r word; do COMPREPLY+=("$key=$word"); done < <(compgen -f -- "${{cur#*=}}")
      fi ;;
    *)
      case "$cmd" in
{keys}
      esac
      for word in $(compgen -W "$keys" -- "$cur"); do COMPREPLY+=("$word"); done
      while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$cur") ;;
  esac
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o nospace -F _geospot geospot
"""


def script(shell: str, commands: Mapping[str, type]) -> str:
    """The script for bash, zsh or fish. `commands`: name -> class of its configuration."""
    return _fish(commands) if shell == "fish" else _bash(shell, commands)


def _bash(shell: str, commands: Mapping[str, type]) -> str:
    values, keys = [], []
    for name, config_class in commands.items():
        names = [f"{key}=" for key in _keys(config_class)]
        keys.append(f'        "{name}") keys="{" ".join(names)}" ;;')
        for key, words in _choices(config_class):
            values.append(f'        "{name}:{key}") values="{" ".join(words)}" ;;')
    top = list(dict.fromkeys(name.split()[0] for name in commands))
    data = [name.split()[1] for name in commands if " " in name]
    return (_ZSH if shell == "zsh" else "") + _BASH.format(
        commands=" ".join(top), data=" ".join(data), values="\n".join(values), keys="\n".join(keys)
    )


def _fish(commands: Mapping[str, type]) -> str:
    top = list(dict.fromkeys(name.split()[0] for name in commands))
    lines = ["# geospot completion for fish", f"complete -c geospot -n __fish_use_subcommand -a '{' '.join(top)}'"]
    for name, config_class in commands.items():
        first, _, second = name.partition(" ")
        seen = f"__fish_seen_subcommand_from {second or first}"
        if second:
            lines.append(f"complete -c geospot -n '__fish_seen_subcommand_from {first}; and not {seen}' -a '{second}'")
        words = [f"{key}=" for key in _keys(config_class)]
        words += [f"{key}={value}" for key, choices in _choices(config_class) for value in choices]
        lines.append(f"complete -c geospot -n '{seen}' -a '{' '.join(words)}'")
    return "\n".join(lines) + "\n"


def _keys(config_class: type) -> list[str]:
    fields = chz.chz_fields(config_class)
    return [*fields, *(alias for alias, key in ALIASES.items() if key in fields), *COMMON]


def _choices(config_class: type) -> Iterator[tuple[str, list[str]]]:
    """The keys whose values are a few words, with these."""
    for key, field in chz.chz_fields(config_class).items():
        kind = field.final_type
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        if typing.get_origin(kind) is typing.Literal:
            yield key, list(typing.get_args(kind))
        elif kind is bool:
            yield key, ["true", "false"]
