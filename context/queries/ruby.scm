(class name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.class
(module name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.module
(method name: [(identifier) (constant) (setter) (operator)] @name) @definition.method
(singleton_method name: [(identifier) (constant)] @name) @definition.method

((call method: (identifier) @_method) @import
  (#match? @_method "^(require|require_relative|load|autoload)$"))
