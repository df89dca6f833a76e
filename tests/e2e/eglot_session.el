;;; eglot_session.el --- One session of a user, told as JSON  -*- lexical-binding: t; -*-

;; usage: emacs --batch -q -l eglot_session.el SET-UP FILE
;; SET-UP is the user's configuration, FILE the document.  Prints one JSON object with what was seen.

;;; Code:

(require 'package)
(package-initialize)
(require 'cl-lib)
(require 'json)

(defvar session-seen nil "What was seen: an alist.")
(defvar session-timeout 30 "Seconds to wait for the server.")

(defvar session-published 0 "How often the server has published findings.")

(defun session-note (name value)
  "Remember VALUE as NAME."
  (push (cons name value) session-seen))

(defun session-wait (condition)
  "Wait until CONDITION returns non-nil; return that, or nil when time is up."
  (let ((end (+ (float-time) session-timeout)) found)
    (while (and (not (setq found (funcall condition))) (< (float-time) end))
      (accept-process-output nil 0.02))
    found))

(defun session-text ()
  "The document's text."
  (buffer-substring-no-properties (point-min) (point-max)))

(defun session-diagnostics ()
  "Texts of the diagnostics of the document."
  (mapcar #'flymake-diagnostic-text (flymake-diagnostics)))

(defun session-complete ()
  "Complete at point, as the key would; the candidates that were offered when nothing was inserted."
  (let ((before (session-text)))
    (completion-at-point)
    (unless (equal before (session-text)) (session-text))))

(defun session-apply (wanted)
  "Run the code action whose title contains WANTED through the menu of the user."
  (cl-letf (((symbol-function 'completing-read)
             (lambda (_prompt items &rest _)
               (cl-find wanted (mapcar #'car items) :test #'string-match-p)))
            (last-nonmenu-event t))
    (eglot-code-actions (line-beginning-position) (line-end-position) nil t)))

(defun session-run (set-up file)
  "Load SET-UP and edit FILE."
  (load set-up nil t)
  (setq eglot-sync-connect session-timeout
        eglot-autoshutdown t
        eglot-confirm-server-initiated-edits nil)
  (require 'eglot)
  (cl-defmethod eglot-handle-notification :after
    (_server (_method (eql textDocument/publishDiagnostics)) &rest _)
    (cl-incf session-published))
  (find-file file)
  (call-interactively #'eglot)
  (let ((server (eglot-current-server)))
    (session-note 'languages_of_set_up (length (car (eglot--lookup-mode major-mode))))
    (flymake-start)
    (session-wait #'session-diagnostics)
    (session-note 'diagnostics (vconcat (session-diagnostics)))

    (goto-char (point-max))
    (insert "    shelf.")
    (session-note 'completed (session-wait #'session-complete))

    (goto-char (point-min))
    (search-forward "def load")
    (session-apply "docstring for load")
    (session-wait (lambda () (string-match-p "def load(path):\n    \"\"\"" (session-text))))
    (session-note 'documented (session-text))

    (let ((before session-published))
      (eglot-execute-command server 'qcoder.reviewFile
                             (vector (eglot--path-to-uri buffer-file-name)))
      (session-note 'reviewed_again
                    (and (session-wait (lambda () (> session-published before))) t)))

    (set-buffer-modified-p nil)
    (kill-buffer)
    (session-note 'ended (and (session-wait (lambda () (not (jsonrpc-running-p server)))) t))))

(let ((arguments command-line-args-left))
  (setq command-line-args-left nil)
  (session-run (nth 0 arguments) (nth 1 arguments))
  (princ (json-encode session-seen)))

;;; eglot_session.el ends here
