"""What results say: targets, costs to reach them, shares with intervals. numpy, scipy and pandas; never torch."""
