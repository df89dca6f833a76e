(class_declaration "class" name: (identifier) @name
  [(class_body) (enum_class_body)]? @body) @definition.class
(class_declaration "interface" name: (identifier) @name (class_body)? @body) @definition.interface
(object_declaration name: (identifier) @name (class_body)? @body) @definition.class
(function_declaration name: (identifier) @name (function_body)? @body) @definition.function
(type_alias type: (identifier) @name) @definition.type

(import) @import

(package_header (qualified_identifier) @package)
