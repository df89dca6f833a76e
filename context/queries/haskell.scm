; A function is its type and its equations, one below the other: they become one definition.
(signature name: (variable) @name) @definition.function
(function name: (variable) @name match: (match) @body) @definition.function
(bind name: (variable) @name match: (match) @body) @definition.function
(data_type name: (name) @name) @definition.type
(newtype name: (name) @name) @definition.type
(type_synonym name: (name) @name) @definition.type
(class name: (name) @name declarations: (_)? @body) @definition.class
(instance name: (name) @scope.name) @scope

(import) @import
