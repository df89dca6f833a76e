(function_definition declarator: [
  (function_declarator declarator: (identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))
  (pointer_declarator declarator:
    (pointer_declarator declarator: (function_declarator declarator: (identifier) @name)))
  ]) @definition.function
(declaration declarator: [
  (function_declarator declarator: (identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))
  ]) @definition.function
(struct_specifier name: (type_identifier) @name body: (_)) @definition.struct
(union_specifier name: (type_identifier) @name body: (_)) @definition.struct
(enum_specifier name: (type_identifier) @name body: (_)) @definition.enum
; What a typedef calls a name: one without a tag is the definition itself, one with a tag another name of it.
(type_definition
  type: (struct_specifier !name body: (_) @body)
  declarator: (_) @name) @definition.struct
(type_definition
  type: (union_specifier !name body: (_) @body)
  declarator: (_) @name) @definition.struct
(type_definition
  type: (enum_specifier !name body: (_) @body)
  declarator: (_) @name) @definition.enum
((type_definition
  type: (struct_specifier name: (_) @_tag body: (_) @body)
  declarator: (_) @name) @alias.struct
  (#not-eq? @name @_tag))
((type_definition
  type: (union_specifier name: (_) @_tag body: (_) @body)
  declarator: (_) @name) @alias.struct
  (#not-eq? @name @_tag))
((type_definition
  type: (enum_specifier name: (_) @_tag body: (_) @body)
  declarator: (_) @name) @alias.enum
  (#not-eq? @name @_tag))
(type_definition
  type: [(type_identifier) (primitive_type) (sized_type_specifier) (struct_specifier !body)
    (union_specifier !body) (enum_specifier !body)]
  declarator: (_) @name) @alias.type
(preproc_function_def name: (identifier) @name) @definition.macro

(preproc_include) @import
