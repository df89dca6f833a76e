; Functions become methods when a class owns them.
(function_definition name: (identifier) @name) @definition.function
(class_definition name: (identifier) @name) @definition.class
(type_alias_statement left: (type (identifier) @name)) @definition.type
(decorated_definition) @outer

(import_statement) @import
(import_from_statement) @import
