(create_table (object_reference schema: (identifier)? @owner name: (identifier) @name)) @definition.table
(create_view (object_reference schema: (identifier)? @owner name: (identifier) @name)
  (create_query) @body) @definition.view
(create_materialized_view (object_reference schema: (identifier)? @owner name: (identifier) @name)
  (create_query) @body) @definition.view
(create_function . (_)* . (object_reference schema: (identifier)? @owner name: (identifier) @name)
  (function_body) @body) @definition.function
(create_type (object_reference schema: (identifier)? @owner name: (identifier) @name)) @definition.type
(create_trigger (object_reference schema: (identifier)? @owner name: (identifier) @name)) @definition.trigger
