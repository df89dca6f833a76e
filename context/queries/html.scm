(element (start_tag (attribute (attribute_name) @_attribute
  (quoted_attribute_value (attribute_value) @name))) (#eq? @_attribute "id")) @definition.element

((attribute (attribute_name) @_attribute (quoted_attribute_value)) @import
  (#any-of? @_attribute "src" "href"))
