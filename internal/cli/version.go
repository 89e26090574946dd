package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) versionCommand() *cobra.Command {
	return command("version", "versions of this program and of the running daemon", "", func() error {
		mine := status.Version{Schema: status.Schema, Version: version.Version(), Commit: version.Commit()}
		var daemon *status.Version
		var answer status.Version
		_, err := a.client().get(control.PathVersion, &answer)
		if err == nil {
			daemon = &answer
		}
		if a.format == formatJSON {
			if jerr := a.printJSON(struct {
				Schema int             `json:"schema"`
				Client status.Version  `json:"client"`
				Daemon *status.Version `json:"daemon"`
			}{status.Schema, mine, daemon}); jerr != nil {
				return jerr
			}
			return err
		}
		fmt.Fprintf(&a.out, "subflowctl %s\n", versionText(mine))
		if daemon != nil {
			fmt.Fprintf(&a.out, "subflowd   %s\n", versionText(*daemon))
		}
		return err
	})
}

func versionText(v status.Version) string { return clean(version.Text(v.Version, v.Commit)) }
