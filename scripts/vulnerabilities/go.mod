// The scanner and the database of vulnerabilities of Go modules, for scripts/audits/go_programs.py. Both are fixed here,
// so the audit needs no other network than the Go module proxy. To update: go get golang.org/x/vulndb@master
module beaconfire.example/vulnerabilities

go 1.26.0

tool golang.org/x/vuln/cmd/govulncheck

require golang.org/x/vulndb v0.0.0-20261105234957-e22db6528018

require (
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/telemetry v0.0.0-20261010193011-f71dc92da45e // indirect
	golang.org/x/tools v0.52.0 // indirect
	golang.org/x/vuln v1.9.0 // indirect
)
