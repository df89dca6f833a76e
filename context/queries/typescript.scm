(function_declaration name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(function_signature name: (identifier) @name) @definition.function
(class_declaration name: (type_identifier) @name) @definition.class
(abstract_class_declaration name: (type_identifier) @name) @definition.class
(interface_declaration name: (type_identifier) @name) @definition.interface
(type_alias_declaration name: (type_identifier) @name) @definition.type
(enum_declaration name: (identifier) @name) @definition.enum
(method_definition name: (property_identifier) @name) @definition.method
(method_definition name: (private_property_identifier) @name) @definition.method
(method_signature name: (property_identifier) @name) @definition.method
(abstract_method_signature name: (property_identifier) @name) @definition.method
(public_field_definition
  name: (property_identifier) @name
  value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)]) @definition.method
(lexical_declaration
  (variable_declarator
    name: (identifier) @name
    value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])) @definition.function
(variable_declaration
  (variable_declarator
    name: (identifier) @name
    value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])) @definition.function
(pair
  key: (property_identifier) @name
  value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)]) @definition.function
; A function that a call wraps, or a type is written behind: `export const f = memo((a) => ...)`.
(export_statement (lexical_declaration (variable_declarator
  name: (identifier) @name
  value: (call_expression arguments: (arguments .
    [(arrow_function body: (statement_block) @body)
     (function_expression body: (_) @body)]))))) @definition.function
(lexical_declaration (variable_declarator
  name: (identifier) @name
  value: [
    (as_expression . (arrow_function body: (_) @body))
    (as_expression . (parenthesized_expression (arrow_function body: (_) @body)))
    (satisfies_expression . (parenthesized_expression (arrow_function body: (_) @body)))
  ])) @definition.function
(export_statement) @outer
(ambient_declaration) @outer

(import_statement) @import
(export_statement source: (string)) @import
((variable_declarator
  value: (call_expression function: (identifier) @_callee)) @import
  (#eq? @_callee "require"))
