module example.com/ledger

go 1.17

require (
	golang.org/x/crypto v0.0.0-20220214200702-86341886e292
	golang.org/x/text v0.3.7
)

require golang.org/x/sys v0.0.0-20210615035016-665e8c7367d1 // indirect
