(function_definition name: (word) @name) @definition.function

((command name: (command_name (word) @_command)) @import
  (#match? @_command "^(source|[.])$"))
