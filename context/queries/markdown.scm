(section (atx_heading heading_content: (inline) @name) . (_)? @body) @definition.section
(setext_heading heading_content: (paragraph) @name) @definition.section
