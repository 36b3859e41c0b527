# A manual page or a shell's completion from what `olmoe --help` and each `olmoe NAME --help` print.
#
#   awk -v form=man|bash|zsh|fish -v version=0.2.0 -f manual.awk
#
# Input: the help texts one after the other, each behind a line "#### NAME"; the program's own behind
# "####". What is read of them: an indented line of two columns is an entry, an option or, in the
# program's own help, a subcommand; deeper lines continue its description. "Usage:" is the synopsis; a
# line without indent that ends with a colon is a heading; all else is text.

function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }
function roff(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); sub(/^[.']/, "\\\\\\&&", s); return s }
function single(s) { gsub(/'/, "'\\''", s); return s }

BEGIN { n_commands = 0; n_lines = 0 }

/^####/ {
  command = trim(substr($0, 5))
  if (command != "") { commands[++n_commands] = command }
  kind = ""
  next
}

{
  indent = match($0, /[^ ]/) - 1
  text = trim($0)
}

text == "" { if (kind != "example") kind = ""; next }

# The subcommands, from the program's own help.
command == "" && indent == 2 && kind != "example" && text ~ /^[a-z][a-z-]*  / {
  about_what = text; sub(/ .*/, "", about_what)
  about[about_what] = trim(substr(text, length(about_what) + 1))
  kind = "command"
  next
}

kind == "command" && indent > 2 { about[about_what] = about[about_what] " " text; next }

indent == 0 && tolower(text) ~ /^usage:/ {
  sub(/^[Uu]sage: *[^ ]*/, "olmoe", text)
  usage[command] = text
  kind = ""
  next
}

indent == 0 && text ~ /:$/ {
  kind = tolower(text) ~ /^example/ ? "example" : "heading"
  if (command != "" && tolower(text) !~ /^options:/) add(command, "heading", text)
  next
}

indent > 0 && kind != "example" && (text ~ /^-/ || (text ~ /  / && kind != "option")) {
  at = match(text, /  +/)
  head = at ? substr(text, 1, at - 1) : text
  add(command, "option", head)
  option_text[n_lines] = at ? trim(substr(text, at)) : ""
  option_indent = indent
  kind = "option"
  next
}

kind == "option" && indent > option_indent {
  option_text[n_lines] = trim(option_text[n_lines] " " text)
  next
}

kind == "example" { add(command, "example", $0); next }

{ kind = "text"; add(command, "text", text) }

function add(of, what, value) {
  ++n_lines
  line_command[n_lines] = of
  line_kind[n_lines] = what
  line_value[n_lines] = value
}

# Of an option's head: names[1..], and `value`, "" for a flag.
function split_head(head,   words, n, i) {
  delete names
  n_names = 0
  value = ""
  gsub(/, *-/, ",-", head)
  n = split(head, words, " ")
  i = split(words[1], parts, ",")
  for (n_names = 1; n_names <= i; ++n_names) names[n_names] = parts[n_names]
  n_names = i
  if (n >= 2 && words[2] != "REQUIRED" && words[2] != "Needs:") {
    value = words[2]
    sub(/=[^=]*$/, "", value)
  }
}

# What a value is to a shell: "file", "directory", "words" (then `choices`), "other" or "none".
function value_kind(v) {
  choices = ""
  if (v == "") return "none"
  if (v ~ /^[a-z0-9_-]+(\|[A-Za-z0-9_-]+)+/) { choices = v; return v ~ /FILE/ ? "file" : "words" }
  if (v ~ /FILE/) return "file"
  if (v ~ /DIR/) return "directory"
  return "other"
}

# An entry without a dash is an argument.
function is_option(i) { return line_kind[i] == "option" && line_value[i] ~ /^-/ }

function options_of(c,   i, j, all) {
  all = ""
  for (i = 1; i <= n_lines; ++i) {
    if (line_command[i] != c || !is_option(i)) continue
    split_head(line_value[i])
    for (j = 1; j <= n_names; ++j) all = all (all == "" ? "" : " ") names[j]
  }
  return all
}

function man_part(c,   i) {
  in_example = 0
  for (i = 1; i <= n_lines; ++i) {
    if (line_command[i] != c) continue
    if (in_example && line_kind[i] != "example") { print ".fi\n.RE"; in_example = 0 }
    if (line_kind[i] == "option") {
      print ".TP\n.B " roff(line_value[i])
      print roff(option_text[i] == "" ? "\\&" : option_text[i])
    } else if (line_kind[i] == "heading") {
      print ".PP\n.I " roff(line_value[i])
    } else if (line_kind[i] == "example") {
      if (!in_example) { print ".RS\n.nf"; in_example = 1 }
      print roff(trim(line_value[i]))
    } else {
      print ".PP\n" roff(line_value[i])
    }
  }
  if (in_example) print ".fi\n.RE"
}

function man(   k) {
  print ".TH OLMOE 1 \"\" \"fdroute " version "\" \"fdroute\"\n.nh\n.ad l"
  print ".SH NAME\nolmoe \\- run OLMoE models on the CPU, routed by statistical tests"
  print ".SH SYNOPSIS\n.B olmoe\n.I SUBCOMMAND\n[\\fIOPTIONS\\fR]"
  print ".SH DESCRIPTION"
  man_part("")
  print ".SH SUBCOMMANDS"
  for (k = 1; k <= n_commands; ++k) print ".TP\n.B " roff(commands[k]) "\n" roff(about[commands[k]])
  for (k = 1; k <= n_commands; ++k) {
    print ".SH OLMOE " toupper(roff(commands[k]))
    print ".B " roff(usage[commands[k]])
    man_part(commands[k])
  }
  print ".SH EXIT STATUS\n0, or 1 for a failure, or 2 for wrong usage; an error is one line on stderr."
}

function bash(   k, i, j, v, what) {
  print "# bash completion of olmoe, made from its --help."
  print "_olmoe() {"
  print "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words="
  print "  COMPREPLY=()"
  print "  if [ \"$COMP_CWORD\" -eq 1 ]; then"
  printf "    words='%s", options_of("")
  for (k = 1; k <= n_commands; ++k) printf " %s", commands[k]
  print "'"
  print "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n    return\n  fi"
  print "  case ${COMP_WORDS[1]}:$prev in"
  for (k = 1; k <= n_commands; ++k) {
    for (i = 1; i <= n_lines; ++i) {
      if (line_command[i] != commands[k] || !is_option(i)) continue
      split_head(line_value[i])
      v = value_kind(value)
      if (v == "none") continue
      what = ""
      for (j = 1; j <= n_names; ++j) what = what (j > 1 ? " | " : "") commands[k] ":" names[j]
      print "    " what ")"
      if (v == "words" || (v == "file" && choices != "")) {
        gsub(/\|?FILE/, "", choices)
        gsub(/\|/, " ", choices)
        print "      mapfile -t COMPREPLY < <(compgen -W '" choices "'" \
          (v == "file" ? " -f" : "") " -- \"$cur\")"
      } else if (v == "file") {
        print "      mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n      compopt -o filenames"
      } else if (v == "directory") {
        print "      mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n      compopt -o filenames"
      }
      print "      return ;;"
    }
  }
  print "  esac\n  case ${COMP_WORDS[1]} in"
  for (k = 1; k <= n_commands; ++k) print "    " commands[k] ") words='" options_of(commands[k]) "' ;;"
  print "  esac"
  print "  if [[ $cur == -* ]]; then\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
  print "  else\n    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    compopt -o filenames\n  fi"
  print "}\ncomplete -F _olmoe olmoe"
}

# In zsh's _arguments, brackets and colons have meanings.
function zsh_text(s) {
  gsub(/\\|\[|\]|:/, "\\\\&", s)
  return single(s)
}

function zsh_options(c, margin,   i, j, v, spec) {
  for (i = 1; i <= n_lines; ++i) {
    if (line_command[i] != c || !is_option(i)) continue
    split_head(line_value[i])
    v = value_kind(value)
    gsub(/\|/, " ", choices)
    if (v == "none") spec = ""
    else if (v == "words") spec = ":value:(" choices ")"
    else if (v == "file") spec = ":file:_files"
    else if (v == "directory") spec = ":directory:_files -/"
    else spec = ":" zsh_text(value) ":"
    for (j = 1; j <= n_names; ++j)
      print margin "'*" names[j] "[" zsh_text(option_text[i]) "]" spec "' \\"
  }
}

function zsh(   k) {
  print "#compdef olmoe\n# zsh completion of olmoe, made from its --help.\n"
  print "_olmoe() {\n  local context state line\n  local -a commands\n  commands=("
  for (k = 1; k <= n_commands; ++k) print "    '" commands[k] ":" zsh_text(about[commands[k]]) "'"
  print "  )\n  _arguments -C \\"
  zsh_options("", "    ")
  print "    '1:subcommand:->command' '*::argument:->arguments'"
  print "  case $state in\n    command) _describe subcommand commands ;;\n    arguments)\n      case $line[1] in"
  for (k = 1; k <= n_commands; ++k) {
    print "        " commands[k] ")\n          _arguments \\"
    zsh_options(commands[k], "            ")
    print "            '*:file:_files' ;;"
  }
  print "      esac ;;\n  esac\n}\n\n_olmoe \"$@\""
}

function fish_options(c,   i, j, v, line, condition) {
  condition = c == "" ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " c
  for (i = 1; i <= n_lines; ++i) {
    if (line_command[i] != c || !is_option(i)) continue
    split_head(line_value[i])
    line = "complete -c olmoe -n '" condition "'"
    for (j = 1; j <= n_names; ++j)
      line = line (names[j] ~ /^--/ ? " -l " substr(names[j], 3) : " -s " substr(names[j], 2))
    v = value_kind(value)
    gsub(/\|/, " ", choices)
    if (v == "words") line = line " -x -a '" choices "'"
    else if (v == "file") line = line " -r -F"
    else if (v == "directory") line = line " -x -a '(__fish_complete_directories)'"
    else if (v == "other") line = line " -x"
    print line " -d '" fish_text(option_text[i]) "'"
  }
}

function fish_text(s) { gsub(/[\\']/, "\\\\&", s); return s }

function fish(   k) {
  print "# fish completion of olmoe, made from its --help."
  fish_options("")
  for (k = 1; k <= n_commands; ++k)
    print "complete -c olmoe -f -n __fish_use_subcommand -a " commands[k] " -d '" fish_text(about[commands[k]]) "'"
  for (k = 1; k <= n_commands; ++k) fish_options(commands[k])
}

END {
  if (n_commands == 0) { print "manual.awk: the help names no subcommand" > "/dev/stderr"; exit 1 }
  if (form == "man") man()
  else if (form == "bash") bash()
  else if (form == "zsh") zsh()
  else if (form == "fish") fish()
  else { print "manual.awk: form is man, bash, zsh or fish" > "/dev/stderr"; exit 1 }
}
