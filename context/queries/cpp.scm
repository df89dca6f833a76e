(function_definition declarator: [
  (function_declarator declarator: (_) @name)
  (pointer_declarator declarator: (function_declarator declarator: (_) @name))
  (reference_declarator (function_declarator declarator: (_) @name))
  ]) @definition.function
(declaration declarator: [
  (function_declarator declarator: (identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))
  (reference_declarator (function_declarator declarator: (identifier) @name))
  ]) @definition.function
(field_declaration declarator: [
  (function_declarator declarator: (field_identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (field_identifier) @name))
  (reference_declarator (function_declarator declarator: (field_identifier) @name))
  ]) @definition.method
(class_specifier name: (type_identifier) @name body: (_)) @definition.class
(struct_specifier name: (type_identifier) @name body: (_)) @definition.struct
(union_specifier name: (type_identifier) @name body: (_)) @definition.struct
(enum_specifier name: (type_identifier) @name body: (_)) @definition.enum
(alias_declaration name: (type_identifier) @name) @definition.type
(concept_definition name: (identifier) @name) @definition.type
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
    (union_specifier !body) (enum_specifier !body) (class_specifier !body)
    (qualified_identifier) (template_type) (dependent_type) (decltype)]
  declarator: (_) @name) @alias.type
(preproc_function_def name: (identifier) @name) @definition.macro
(template_declaration) @outer

(preproc_include) @import
