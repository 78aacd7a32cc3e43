/** `blockjob completion`: the script for a shell. The candidates come from the command itself, so they are never stale. */
import { Argument, Command } from 'commander';
import type { Terminal } from '../terminal.ts';

const SCRIPTS = {
  bash: `# blockjob completion bash >/etc/bash_completion.d/blockjob
_blockjob() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        # Names come from others: text that a shell would execute is quoted.
        COMPREPLY+=("$(printf %q "\${line%%$'\\t'*}")")
    done < <("\${COMP_WORDS[0]}" __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _blockjob blockjob
`,
  zsh: `#compdef blockjob
# blockjob completion zsh >"\${fpath[1]}/_blockjob"
_blockjob() {
    local line
    local -a found
    while IFS= read -r line; do
        found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
    done < <("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( \${#found} )); then _describe blockjob found; else _files; fi
}
if [ "\${funcstack[1]}" = _blockjob ]; then _blockjob "$@"; else compdef _blockjob blockjob; fi
`,
  fish: `# blockjob completion fish >~/.config/fish/completions/blockjob.fish
function __blockjob_complete
    set -l words (commandline -opc)
    set -l found ($words[1] __complete $words[2..] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c blockjob -f -a '(__blockjob_complete)'
`,
} as const;

export function completionCommand(terminal: Terminal): Command {
  return new Command('completion')
    .description('print a script with which a shell completes commands, options and names')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .action((shell: keyof typeof SCRIPTS) => {
      terminal.stdout.write(SCRIPTS[shell]);
    });
}
